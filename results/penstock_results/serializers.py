"""How values become bytes: the serializers, their registry, and the choice between them.

A serializer is an object with a name under which it is registered; the container records the name, and nothing in
stored data can make a reader import anything to find it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from penstock.errors import ConfigurationError, ResultError, ResultForbidden
from penstock.settings import settings, truth
from penstock_results.plain import fits
from penstock_results.tabular import ArrowSerializer, NumpySerializer, ParquetSerializer, is_array, is_frame
from penstock_results.typed import JsonSerializer

__all__ = (
    "PickleSerializer",
    "Serializer",
    "Stream",
    "choose",
    "pickle_allowed",
    "register_serializer",
    "serializer_named",
)


class Stream(Protocol):
    """Where a serializer writes: a binary stream that can be divided into frames."""

    def write(self, data: Any, /) -> int:
        """Append bytes-like data to the current frame; large data are not copied."""
        ...

    def frame(self) -> None:
        """End the current frame and begin another."""
        ...


@runtime_checkable
class Serializer(Protocol):
    """One way to turn values into frames of bytes and back.

    Attributes:
        name: What it is registered and recorded as.
        runs_code: Whether loading can run code that the data chose; such serializers are off when pickle is off.
    """

    name: str
    runs_code: bool

    def dump(self, value: Any, stream: Stream) -> None:
        """Write the value."""
        ...

    def load(self, frames: Sequence[memoryview]) -> Any:
        """Make the value again; it may keep and change the memory of the frames, which is its own."""
        ...


class PickleSerializer:
    """Pickle protocol 5 by cloudpickle, large buffers each in a frame of their own.

    What is defined in ``__main__`` or in a function goes by value, so that other processes can read it.
    """

    name = "pickle"
    runs_code = True

    def dump(self, value: Any, stream: Stream) -> None:
        """Write the pickle as the first frame and every out-of-band buffer as another, from its own memory."""
        import cloudpickle

        buffers: list[pickle.PickleBuffer] = []
        pickler: Any = cloudpickle.Pickler
        pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
        for buffer in buffers:
            stream.frame()
            stream.write(buffer.raw())

    def load(self, frames: Sequence[memoryview]) -> Any:
        """Unpickle; arrays are views of the frames."""
        return pickle.loads(frames[0], buffers=frames[1:])


_registry: dict[str, Serializer] = {
    serializer.name: serializer
    for serializer in (
        JsonSerializer(),
        PickleSerializer(),
        NumpySerializer(),
        ArrowSerializer(),
        ParquetSerializer(),
    )
}


def register_serializer(serializer: Serializer) -> Serializer:
    """Make a serializer known under its name, in this process; usable on an instance that is kept.

    Args:
        serializer: The serializer. Reading processes must register it too.

    Raises:
        ConfigurationError: If another one has the name.
    """
    known = _registry.setdefault(serializer.name, serializer)
    if type(known) is not type(serializer):
        raise ConfigurationError(f"a serializer named {serializer.name!r} is registered already: {type(known)!r}")
    return known


def serializer_named(name: str) -> Serializer:
    """Return the serializer that was registered under the name.

    Raises:
        ResultError: If there is none.
    """
    try:
        return _registry[name]
    except KeyError:
        raise ResultError(
            f"no serializer named {name!r} is registered in this process, only {sorted(_registry)}: call "
            "penstock.results.register_serializer() before reading or writing"
        ) from None


def pickle_allowed() -> bool:
    """Whether this process may pickle results at all; the setting ``PENSTOCK_ALLOW_PICKLE=0`` forbids it.

    Raises:
        ConfigurationError: If the setting is neither a yes nor a no.
    """
    return bool(settings("allow_pickle", truth, True))


def choose(value: Any, *, allow_pickle: bool) -> Serializer:
    """Choose a serializer by the value's type.

    Arrays go as they are; small values of JSON's own types as JSON, which people can read; everything else as pickle,
    the one format that is faithful to all types. Without pickle, frames go as Arrow and the rest as typed JSON.
    """
    if is_array(value):
        return _registry["numpy"]
    if fits(value):
        return _registry["json"]
    if allow_pickle:
        return _registry["pickle"]
    return _registry["arrow"] if is_frame(value) else _registry["json"]


def refuse_code(serializer: Serializer, key: str, *, allow_pickle: bool) -> None:
    """Refuse a serializer that runs code where pickle is off.

    Raises:
        ResultForbidden: If it does and it is.
    """
    if serializer.runs_code and not allow_pickle:
        raise ResultForbidden(
            f"the result {key!r} needs the serializer {serializer.name!r}, which can run code when loading, and pickle "
            "is off (allow_pickle=False or PENSTOCK_ALLOW_PICKLE=0): name another serializer"
        )
