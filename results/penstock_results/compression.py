"""Compression of single chunks, and the decision whether a frame is worth it."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from penstock.errors import ConfigurationError, MissingExtra
from penstock_results.blobs import Bytes

__all__ = ("Codec", "codec", "worthwhile")

# A chunk's first bytes foretell the rest well enough; below a fifth of gain the time costs more than the space
# (reference: floating point noise shrinks by 4 % and takes ten times as long).
_SAMPLE = 64 << 10
_GAIN = 0.8


class Codec(Protocol):
    """One way to make a chunk smaller."""

    @property
    def name(self) -> str:
        """What it is called in containers."""
        ...

    def compress(self, data: Bytes) -> bytes:
        """Make a chunk smaller."""
        ...

    def decompress(self, data: Bytes, size: int) -> bytes:
        """Undo `compress`.

        Raises:
            ValueError: If the result is not exactly ``size`` bytes, however large it would be.
        """
        ...


def codec(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
        ConfigurationError: If there is none.
        MissingExtra: If its package is not installed.
    """
    try:
        kind = _CODECS[name]
    except KeyError:
        raise ConfigurationError(f"there is no compression {name!r}: use one of {sorted(_CODECS)} or None") from None
    return kind()


def worthwhile(codec: Codec, data: memoryview) -> bool:
    """Whether compressing data that begin like this saves at least a fifth."""
    sample = data[:_SAMPLE]
    return len(codec.compress(sample)) < _GAIN * len(sample)


class _Zstd:
    """Level 1: for results, time is dearer than the last percent of space."""

    name = "zstd"

    def __init__(self) -> None:
        self._library = _load("zstandard", self.name)
        self._compress = self._library.ZstdCompressor(level=1).compress
        self._decompress = self._library.ZstdDecompressor().decompress

    def compress(self, data: Bytes) -> bytes:
        packed: bytes = self._compress(data)
        return packed

    def decompress(self, data: Bytes, size: int) -> bytes:
        if self._library.frame_content_size(bytes(data[:18])) != size:
            raise ValueError("the chunk's own size differs")
        try:
            plain: bytes = self._decompress(data, max_output_size=size)
        except self._library.ZstdError as error:
            raise ValueError(str(error)) from error
        return _sized(plain, size)


class _Lz4:
    name = "lz4"

    def __init__(self) -> None:
        self._library = _load("lz4.block", self.name)

    def compress(self, data: Bytes) -> bytes:
        packed: bytes = self._library.compress(data, store_size=False)
        return packed

    def decompress(self, data: Bytes, size: int) -> bytes:
        try:
            plain: bytes = self._library.decompress(data, uncompressed_size=size)
        except self._library.LZ4BlockError as error:
            raise ValueError(str(error)) from error
        return _sized(plain, size)


_CODECS: dict[str, type[_Zstd] | type[_Lz4]] = {"zstd": _Zstd, "lz4": _Lz4}


def _load(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"compression={name!r}", "compression") from error


def _sized(plain: bytes, size: int) -> bytes:
    if len(plain) != size:
        raise ValueError(f"a chunk gives {len(plain)} bytes instead of {size}")
    return plain
