"""The container: one file layout for every result, whatever serializer made it and wherever it lies.

::

    prelude   magic "PENSTOCK", version u16, reserved u16, length of the head u32, CRC-32 of all this and the head u32
    head      JSON: key, serializer, type, times, provenance, how chunks are digested, whether there is a signature
    frames    each starts at a multiple of 64 bytes and is a sequence of chunks of at most 16 MiB (before compression)
    table     JSON: for every frame its offset, its codec and its chunks [size, stored size, digest]
    trailer   offset u64 and length u32 of the table, seal, signature, magic "KCOTSNEP"

The *seal* is the SHA-256 of prelude, head and table; the table holds a digest of every chunk; gaps must be zero. So
every byte is vouched for, and reading checks all of it before anything is decoded. The digests are CRC-32 or, where
its package is installed, XXH3: they cost next to nothing and catch accidents. A store that signs uses SHA-256, because
the *signature*, an HMAC of the seal, must bind the data to something that cannot be forged.

What is large is known only while it streams by, hence the table at the end; what people ask for without wanting the
value is in the head, at the beginning, where one small read gets it.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from penstock.errors import ConfigurationError, ResultCorrupt, ResultError, ResultForbidden
from penstock_results.blobs import Bytes, Sink
from penstock_results.compression import Codec, codec, worthwhile
from penstock_results.digests import DIGESTS, Digester

__all__ = ("HEAD_READ", "ContainerWriter", "Head", "Written", "read_container", "read_head")

HEAD_READ = 4096
"""How many bytes at the beginning of a blob nearly always hold the whole head."""

_MAGIC, _END = b"PENSTOCK", b"KCOTSNEP"
_VERSION = 1
_FIXED, _CRC = struct.Struct("<8sHHI"), struct.Struct("<I")
_PRELUDE = struct.Struct("<8sHHII")
_TRAILER = struct.Struct("<QI32s32s8s")
_UNSIGNED = bytes(32)
_ALIGNMENT = 64
_CHUNK = 16 << 20
# Small writes are gathered up to here, larger ones pass through from the producer's memory.
_GATHERED = 1 << 20
_DIRECT = 64 << 10


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a result without its value.

    Attributes:
        key: Where the result belongs; a blob that lies anywhere else is refused.
        serializer: The name of the serializer that can load it.
        type: The value's type, for people.
        created: When it was written, seconds since the epoch.
        expires: When it stops to exist, seconds since the epoch, or None.
        provenance: Where it came from, as the writer said.
        python: The Python version that wrote it.
        digest: How chunks are digested: ``crc32``, ``xxh3`` or ``sha256``.
        signed: Whether the trailer holds a signature.
    """

    key: str
    serializer: str
    type: str
    created: float
    expires: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    python: str = ""
    digest: str = "crc32"
    signed: bool = False


class Written(NamedTuple):
    """What a writer knows when it is done: the value's size in bytes, and a digest of its serialized form."""

    size: int
    checksum: str


class ContainerWriter(io.RawIOBase):
    """A binary stream that turns what a serializer writes into a container.

    Args:
        sink: Where the bytes go.
        head: The head. With ``signed`` set, a key is needed.
        codec: How to compress the frames that gain by it, or None.
        key: The signing key, or None.
    """

    def __init__(self, sink: Sink, head: Head, *, codec: Codec | None = None, key: bytes | None = None) -> None:
        self._sink = sink
        self._codec = codec
        self._key = key
        self._digester = Digester(head.digest)
        self._position = 0
        self._pending = bytearray()
        self._chunks: list[tuple[int, int, Callable[[], str]]] = []
        self._frames: list[dict[str, Any]] = []
        packed = _packed(head)
        fixed = _FIXED.pack(_MAGIC, _VERSION, 0, len(packed))
        self._opening = fixed + _CRC.pack(zlib.crc32(packed, zlib.crc32(fixed))) + packed
        self._put(self._opening)
        self._begin()

    def writable(self) -> bool:
        """Say that this is a stream to write to."""
        return True

    def write(self, data: Any, /) -> int:
        """Append to the current frame; large data are not copied and must not change until the blob is committed."""
        view = memoryview(data)
        size = view.nbytes
        if size < _DIRECT:
            self._pending += view
            if len(self._pending) >= _GATHERED:
                self._flush()
            return size
        self._flush()
        view = view.cast("B")
        for start in range(0, size, _CHUNK):
            self._chunk(view[start : start + _CHUNK])
        return size

    def frame(self) -> None:
        """End the current frame and begin another."""
        self._flush()
        self._begin()

    def finish(self) -> Written:
        """End the last frame and write the table and the trailer."""
        self._flush()
        table = orjson.dumps(self._frames, default=lambda digest: digest())
        offset = self._position
        seal = _seal(self._opening, table)
        signature = _UNSIGNED if self._key is None else _sign(self._key, seal)
        self._put(table + _TRAILER.pack(offset, len(table), seal, signature, _END))
        return _written(orjson.loads(table))

    def close(self) -> None:
        """Stop digesting, whether the container is finished or not."""
        self._digester.close()
        super().close()

    def _begin(self) -> None:
        self._put(bytes(-self._position % _ALIGNMENT))
        self._chunks = []
        self._frames.append({"offset": self._position, "codec": None, "chunks": self._chunks})

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self._chunk(memoryview(pending))

    def _chunk(self, data: memoryview) -> None:
        """Write one chunk, compressed if that makes it smaller; so its two sizes say whether it is."""
        stored: Bytes = data
        if self._codec is not None and worthwhile(self._codec, data):
            packed = self._codec.compress(data)
            if len(packed) < len(data):
                stored = packed
                self._frames[-1]["codec"] = self._codec.name
        self._chunks.append((len(data), len(stored), self._digester.start(stored)))
        self._put(stored)

    def _put(self, data: Bytes) -> None:
        if len(data):
            self._sink.write(data)
            self._position += len(data)


def read_head(start: memoryview, key: str) -> Head | int:
    """Read the head from the beginning of a blob.

    Returns:
        The head; or how many bytes of the blob it takes to hold it, if these are too few.

    Raises:
        ResultCorrupt: If there is no sound head, or it belongs to another key.
        ResultError: If the container has a version that this release does not know.
    """
    length, checksum = _prelude(start, key)
    end = _PRELUDE.size + length
    if len(start) < end:
        return end
    if checksum != _opening_checksum(start, length):
        raise _corrupt(key, "its head does not match its checksum")
    return _head(start[_PRELUDE.size : end], key)


def read_container(
    blob: memoryview, key: str, *, signing_key: bytes | None = None
) -> tuple[Head, Callable[[], list[memoryview]], Written]:
    """Check a whole blob, byte for byte, and decode nothing but its head and table.

    Returns:
        The head, a function that hands out the frames (uncompressed ones are views of the blob), and what the writer
        knew when it was done.

    Raises:
        ResultCorrupt: If any byte differs from what was written, or the blob belongs to another key.
        ResultForbidden: If the signature is missing or wrong, or there is one and no key.
        ResultError: If the container has a version that this release does not know.
    """
    length, _ = _prelude(blob, key, whole=True)
    body = _PRELUDE.size + length
    trailer_at = len(blob) - _TRAILER.size
    if trailer_at < body:
        raise _corrupt(key, "it is truncated")
    offset, table_length, seal, signature, end = _TRAILER.unpack_from(blob, trailer_at)
    if end != _END or offset < body or offset + table_length != trailer_at:
        raise _corrupt(key, "it is truncated or its trailer is damaged")
    packed_table = blob[offset:trailer_at]
    if seal != _seal(blob[:body], packed_table):
        raise _corrupt(key, "its seal is broken")
    head = _head(blob[_PRELUDE.size : body], key)
    _check_signature(head, seal, signature, signing_key)
    table = orjson.loads(packed_table)
    frames = _Frames(blob, key, head, table)
    frames.check(body, offset)
    return head, frames.load, _written(table)


class _Frames:
    """The frames of a blob: first all are checked, then they are handed out."""

    def __init__(self, blob: memoryview, key: str, head: Head, table: Any) -> None:
        self._blob = blob
        self._key = key
        self._digest = DIGESTS[head.digest]
        try:
            self._table = [_Frame.parse(row) for row in table]
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(key, "its table is malformed") from error

    def check(self, start: int, end: int) -> None:
        """Check that the frames fill the space between the head and the table, and every digest."""
        position = start
        for frame in self._table:
            gap = self._blob[position : frame.offset]
            if frame.offset != position + -position % _ALIGNMENT or bytes(gap).strip(b"\0"):
                raise _corrupt(self._key, f"the gap before byte {frame.offset} is damaged")
            position = frame.offset
            for chunk in frame.chunks:
                data = self._blob[position : position + chunk.stored]
                position += chunk.stored
                if position > end or self._digest(data) != chunk.digest:
                    raise _corrupt(self._key, f"the chunk that ends at byte {position} does not match its checksum")
        if position != end:
            raise _corrupt(self._key, "its frames and its table do not meet")

    def load(self) -> list[memoryview]:
        """Return every frame as it was before compression."""
        return [self._load(frame) for frame in self._table]

    def _load(self, frame: _Frame) -> memoryview:
        stored = sum(chunk.stored for chunk in frame.chunks)
        if frame.codec is None:
            return self._blob[frame.offset : frame.offset + stored]
        decompress = codec(frame.codec).decompress
        plain = memoryview(bytearray(sum(chunk.size for chunk in frame.chunks)))
        position, filled = frame.offset, 0
        for chunk in frame.chunks:
            data = self._blob[position : position + chunk.stored]
            try:
                plain[filled : filled + chunk.size] = (
                    data if chunk.stored == chunk.size else decompress(data, chunk.size)
                )
            except ValueError as error:
                raise _corrupt(self._key, f"a chunk cannot be decompressed ({error})") from error
            position += chunk.stored
            filled += chunk.size
        return plain


class _Chunk(NamedTuple):
    size: int
    stored: int
    digest: str


class _Frame(NamedTuple):
    offset: int
    codec: str | None
    chunks: Sequence[_Chunk]

    @classmethod
    def parse(cls, row: Any) -> _Frame:
        """Read a row of the table; its numbers are bounded here, because an unsigned table can be forged."""
        chunks = [_Chunk(int(size), int(stored), str(digest)) for size, stored, digest in row["chunks"]]
        name = row["codec"]
        for chunk in chunks:
            if not 0 < chunk.stored <= chunk.size <= _CHUNK or (name is None and chunk.stored < chunk.size):
                raise ValueError(f"a chunk of {chunk.size} bytes, stored in {chunk.stored}")
        return cls(int(row["offset"]), None if name is None else str(name), chunks)


def _prelude(start: memoryview, key: str, *, whole: bool = False) -> tuple[int, int]:
    """Return the length and the checksum of the head."""
    if len(start) < _PRELUDE.size:
        raise _corrupt(key, "it is truncated")
    magic, version, reserved, length, checksum = _PRELUDE.unpack_from(start)
    if magic != _MAGIC or reserved:
        raise _corrupt(key, "it does not begin like a result of Penstock")
    if whole and _PRELUDE.size + length > len(start):
        raise _corrupt(key, "it is truncated")
    if version != _VERSION and checksum == _opening_checksum(start, length):
        raise ResultError(
            f"the result {key!r} has version {version} of the container, this release of Penstock reads version "
            f"{_VERSION}: upgrade Penstock"
        )
    if version != _VERSION:
        raise _corrupt(key, f"its version {version} is damaged")
    return length, checksum


def _opening_checksum(start: memoryview, length: int) -> int:
    return zlib.crc32(start[_PRELUDE.size : _PRELUDE.size + length], zlib.crc32(start[: _FIXED.size]))


def _packed(head: Head) -> bytes:
    try:
        return orjson.dumps(head)
    except TypeError as error:
        raise ConfigurationError(
            f"the provenance of the result {head.key!r} holds what JSON cannot ({error}): give strings, numbers, lists "
            "and dictionaries with string keys"
        ) from error


def _head(packed: memoryview, key: str) -> Head:
    try:
        head = Head(**orjson.loads(packed))
    except (TypeError, ValueError) as error:
        raise _corrupt(key, "its head is malformed") from error
    if head.key != key:
        raise _corrupt(key, f"what lies there was written as {head.key!r}")
    if head.digest not in DIGESTS:
        raise _corrupt(key, f"its digest {head.digest!r} is unknown")
    return head


def _check_signature(head: Head, seal: bytes, signature: bytes, key: bytes | None) -> None:
    if not head.signed:
        if signature != _UNSIGNED:
            raise _corrupt(head.key, "its trailer is damaged")
        if key is not None:
            raise ResultForbidden(f"the result {head.key!r} is not signed, and this store reads signed results only")
    elif key is None:
        raise ResultForbidden(f"the result {head.key!r} is signed: open the store with its signing_key")
    elif head.digest != "sha256" or not hmac.compare_digest(signature, _sign(key, seal)):
        raise ResultForbidden(f"the signature of the result {head.key!r} does not match this store's signing_key")


def _seal(opening: Bytes, table: Bytes) -> bytes:
    return hashlib.sha256(b"".join((opening, table))).digest()


def _sign(key: bytes, seal: bytes) -> bytes:
    return hmac.digest(key, b"penstock result 1\0" + seal, "sha256")


def _written(table: Any) -> Written:
    """Say it of a table. Where the frames lie is no matter of the value: it depends on what the head has to say."""
    frames = [(frame["codec"], frame["chunks"]) for frame in table]
    size = sum(chunk[0] for _, chunks in frames for chunk in chunks)
    return Written(size, hashlib.sha256(orjson.dumps(frames)).hexdigest()[:32])


def _corrupt(key: str, why: str) -> ResultCorrupt:
    return ResultCorrupt(f"the result {key!r} is not what was written: {why}. Delete it, or let its task run again")
