"""A value as one canonical stream of bytes, hashed as it is written.

Every value is written as a tag, a length and a payload, so that no two different values give the same stream: `1`,
`1.0`, `True` and `"1"` differ, and so do `(1, 2)`, `[1, 2]` and `[[1], 2]`. Whatever has no order of its own is put
in one: a dict or set of strings by the strings, any other by the digests of its members.

Decisions that a reader may wonder about:

* ``0.0`` and ``-0.0`` are different inputs (they divide differently); every NaN is the same input.
* The order of a dict's keys does not count; the order of an `collections.OrderedDict` does.
* A value that contains itself, or lies deeper than `MAX_DEPTH`, is refused.

The stream is the same in every process, under every hash seed and on every platform. Changing it means raising
`penstock_results.keys.KEY_VERSION`.
"""

from __future__ import annotations

import hashlib
import math
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeAlias

__all__ = (
    "MAX_DEPTH",
    "Buffer",
    "Digest",
    "Encoder",
    "Fields",
    "Raw",
    "Refusal",
    "Strings",
    "class_name",
    "encode_items",
)

MAX_DEPTH = 150
"""Containers inside containers that are followed; each costs up to four interpreter frames of the thousand allowed."""

_FLUSH = 1 << 16
"""Bytes gathered before they are hashed; larger buffers go to the hash directly, which then releases the GIL."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Encoder: TypeAlias = "Callable[[Digest, Any], None]"


class Refusal(Exception):
    """No digest can be made; unwinding adds, step by step, where in the value the reason lies."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._steps: list[str] = []

    def within(self, step: str) -> Refusal:
        """Note that it happened inside of this step of the way: ``[3]``, ``.name``, ``['key']``."""
        self._steps.append(step)
        return self

    @property
    def path(self) -> str:
        """The way from the outermost value to the culprit; the middle of a very long one is left out."""
        steps = self._steps[::-1]
        return "".join(steps if len(steps) <= 16 else [*steps[:8], " ... ", *steps[-8:]])


class Fields(dict[str, Any]):
    """The attributes of an instance, by name; an error inside names them as attributes."""


class Raw:
    """Memory to be hashed as it is, in pieces.

    Args:
        size: The total number of bytes.
        pieces: The bytes, in order.
    """

    __slots__ = ("pieces", "size")

    def __init__(self, size: int, pieces: Iterable[Buffer]) -> None:
        self.size = size
        self.pieces = pieces


class Strings:
    """Very many strings, written as one text and the list of their lengths: ten times faster than one by one."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[str]) -> None:
        self.items = items


class Digest:
    """The stream of one value, on its way into the hash.

    Functions and classes are not written where they are met. They get a number there, and their code follows at the
    end of the stream in the order of the numbers; so recursion ends and the depth of a call graph does not matter.

    Args:
        resolve: Finds the encoder of a type that is not among the exact ones.
        parent: The stream that this one is a part of, whose numbers it continues.
    """

    __slots__ = ("_buffer", "_hash", "_queue", "open", "resolve", "seen")

    exact: ClassVar[dict[type, Encoder]] = {}

    def __init__(self, resolve: Callable[[type], Encoder], parent: Digest | None = None) -> None:
        self.resolve = resolve
        self.open: dict[int, int] = {} if parent is None else parent.open
        self.seen: dict[int, tuple[int, object]] = {} if parent is None else dict(parent.seen)
        self._queue: list[tuple[Any, Encoder]] = []
        self._hash = hashlib.sha256()
        self._buffer = bytearray()

    def feed(self, value: Any) -> None:
        """Write a value.

        Raises:
            Refusal: If something in it has no canonical form.
        """
        encode = self.exact.get(type(value))
        if encode is None:
            encode = self.resolve(type(value))
        encode(self, value)

    def write(self, data: Buffer) -> None:
        """Write bytes as they are; the caller answers for tag and length."""
        if len(data) > _FLUSH:
            self._flush()
            self._hash.update(data)
            return
        self._buffer += data
        if len(self._buffer) > _FLUSH:
            self._flush()

    def text(self, tag: bytes, text: str) -> None:
        """Write a tagged string."""
        data = text.encode("utf-8", "surrogatepass")
        self.write(b"%b%d:%b" % (tag, len(data), data))

    def enter(self, value: object) -> None:
        """Note that the members of a container follow.

        Raises:
            Refusal: If the container is its own member, or lies too deep.
        """
        if id(value) in self.open:
            raise Refusal(f"this {type(value).__name__} contains itself")
        if len(self.open) >= MAX_DEPTH:
            raise Refusal(f"it is nested more than {MAX_DEPTH} levels deep")
        self.open[id(value)] = len(self.open)

    def leave(self, value: object) -> None:
        """Note that the container's members have been written."""
        del self.open[id(value)]

    def later(self, value: object, encode: Encoder) -> None:
        """Write the number of a function or class, and its content at the end of the stream."""
        known = self.seen.get(id(value))
        if known is None:
            known = self.seen[id(value)] = (len(self.seen), value)
            self._queue.append((value, encode))
        self.write(b"#%d;" % known[0])

    def attempt(self, value: object) -> None:
        """Write a value that code refers to: the value if it has a canonical form, and its type's name if not."""
        if id(value) in self.open:
            self.write(b"^%d;" % self.open[id(value)])
            return
        part = Digest(self.resolve, self)
        try:
            part.feed(value)
        except Refusal:
            self.text(b"?", class_name(type(value)))
            return
        self.seen = part.seen
        self._queue += part._queue
        part._queue = []
        self.write(b"=")
        self.write(part.finish())

    def of_member(self, value: object) -> bytes:
        """The digest of a member of an unordered container, the same whatever its siblings are."""
        part = Digest(self.resolve, self)
        part.feed(value)
        return part.finish()

    def finish(self) -> bytes:
        """Write what was put off, and return the hash of everything."""
        for value, encode in self._queue:  # grows while it is walked
            encode(self, value)
        self._flush()
        return self._hash.digest()

    def _flush(self) -> None:
        self._hash.update(self._buffer)
        self._buffer.clear()


def class_name(cls: type) -> str:
    """A class's name, the same in a script and in the workers that the script spawned."""
    module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
    return f"{module}:{cls.__qualname__}"


def encode_items(tag: bytes) -> Encoder:
    """Make the encoder of a sequence whose members are written in order."""

    def encode(digest: Digest, items: Sequence[Any]) -> None:
        digest.enter(items)
        digest.write(b"%b%d:" % (tag, len(items)))
        index, feed = 0, digest.feed
        try:
            for index, item in enumerate(items):  # noqa: B007 (read when a member refuses)
                feed(item)
        except Refusal as refusal:
            raise refusal.within(f"[{index}]") from None
        finally:
            digest.leave(items)

    return encode


def _encode_dict(digest: Digest, value: dict[Any, Any]) -> None:
    digest.enter(value)
    key: Any = None
    try:
        if all(type(key) is str for key in value):
            digest.write(b"D%d:" % len(value))
            for key in sorted(value):
                digest.text(b"s", key)
                digest.feed(value[key])
            return
        pairs = list[bytes]()
        for key, item in value.items():
            pairs.append(digest.of_member(key) + digest.of_member(item))
        digest.write(b"M%d:" % len(pairs))
        for pair in sorted(pairs):
            digest.write(pair)
    except Refusal as refusal:
        raise refusal.within(f"[{key!r}]") from None
    finally:
        digest.leave(value)


def _encode_fields(digest: Digest, value: Fields) -> None:
    digest.write(b"O%d:" % len(value))
    for name in sorted(value):
        digest.text(b"s", name)
        try:
            digest.feed(value[name])
        except Refusal as refusal:
            raise refusal.within(f".{name}") from None


def _encode_set(tag: bytes) -> Encoder:
    def encode(digest: Digest, value: set[Any] | frozenset[Any]) -> None:
        digest.enter(value)
        try:
            members = sorted(digest.of_member(item) for item in value)
        except Refusal as refusal:
            raise refusal.within("{...}") from None
        finally:
            digest.leave(value)
        digest.write(b"%b%d:" % (tag, len(members)))
        for member in members:
            digest.write(member)

    return encode


def _encode_float(digest: Digest, value: float) -> None:
    digest.write(b"fnan....." if math.isnan(value) else b"f" + struct.pack(">d", value))


def _encode_complex(digest: Digest, value: complex) -> None:
    digest.write(b"j")
    _encode_float(digest, value.real)
    _encode_float(digest, value.imag)


def _encode_bytes(tag: bytes) -> Encoder:
    def encode(digest: Digest, value: bytes | bytearray) -> None:
        digest.write(b"%b%d:" % (tag, len(value)))
        digest.write(value)

    return encode


def _encode_raw(digest: Digest, value: Raw) -> None:
    digest.write(b"r%d:" % value.size)
    for piece in value.pieces:
        digest.write(piece)


def _encode_strings(digest: Digest, value: Strings) -> None:
    lengths = array("Q", map(len, value.items))
    digest.write(b"S%d:" % len(lengths))
    digest.write(memoryview(lengths).cast("B"))
    digest.text(b"s", "".join(value.items))


Digest.exact.update(
    {
        type(None): lambda digest, _: digest.write(b"N"),
        type(Ellipsis): lambda digest, _: digest.write(b"E"),
        type(NotImplemented): lambda digest, _: digest.write(b"I"),
        bool: lambda digest, value: digest.write(b"T" if value else b"F"),
        int: lambda digest, value: digest.write(b"i%x;" % value),
        float: _encode_float,
        complex: _encode_complex,
        str: lambda digest, value: digest.text(b"s", value),
        bytes: _encode_bytes(b"b"),
        bytearray: _encode_bytes(b"a"),
        tuple: encode_items(b"t"),
        list: encode_items(b"l"),
        dict: _encode_dict,
        Fields: _encode_fields,
        set: _encode_set(b"u"),
        frozenset: _encode_set(b"z"),
        Raw: _encode_raw,
        Strings: _encode_strings,
    }
)
