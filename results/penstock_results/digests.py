"""How chunks are digested, and how that costs no time while they are written."""

from __future__ import annotations

import hashlib
import importlib
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from typing import Any

from penstock.errors import MissingExtra
from penstock_results.blobs import Bytes

__all__ = ("DIGESTS", "Digester", "fastest")

# Waking a thread costs more than digesting less than this.
_LARGE = 1 << 20


def _crc32(data: Bytes) -> str:
    return f"{zlib.crc32(data):08x}"


def _sha256(data: Bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _xxh3(data: Bytes) -> str:
    digest: str = _xxhash().xxh3_64_hexdigest(data)
    return digest


@cache
def _xxhash() -> Any:
    try:
        return importlib.import_module("xxhash")
    except ImportError as error:
        raise MissingExtra("a result with xxh3 checksums", "checksums") from error


DIGESTS: Mapping[str, Callable[[Bytes], str]] = {"crc32": _crc32, "sha256": _sha256, "xxh3": _xxh3}
"""The digests that a container may use, by the name in its head."""


@cache
def fastest() -> str:
    """Return the digest that catches accidents in the least time here.

    It is xxh3 where its package is installed: a frame of 80 MB went to disk and back in 0.15 s instead of 0.23
    (benchmarks/results.py, the rows "penstock" and "penstock, crc32"). Whoever reads such a result needs it as well.
    """
    try:
        _xxhash()
    except MissingExtra:
        return "crc32"
    return "xxh3"


class Digester:
    """Digests chunks that are being written; large ones on a thread.

    Digesting and writing both let go of Python's lock, so that on a second core the checksum of a large value costs
    next to nothing: CRC and write of 80 MB took 20 ms instead of 40 (benchmarks/results.py, table "digests").

    Args:
        name: Which digest.
    """

    def __init__(self, name: str) -> None:
        self._digest = DIGESTS[name]
        self._thread: Executor | None = None

    def start(self, data: Bytes) -> Callable[[], str]:
        """Begin with a chunk, which must not change, and return what waits for its digest."""
        if len(data) < _LARGE:
            digest = self._digest(data)
            return lambda: digest
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "penstock-digest")
        return self._thread.submit(self._digest, data).result

    def close(self) -> None:
        """End the thread; digests that nobody waited for are dropped."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None
