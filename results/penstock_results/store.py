"""The result store: values under keys, whole or not at all, wherever fsspec reaches."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penstock.clock import SystemClock
from penstock.errors import (
    ConfigurationError,
    PenstockError,
    ResultCorrupt,
    ResultError,
    ResultMissing,
    SerializationError,
)
from penstock.ports import Clock
from penstock_results.blobs import Blobs, connect, whole_url
from penstock_results.compression import codec
from penstock_results.digests import fastest
from penstock_results.formats import HEAD_READ, ContainerWriter, Head, Written, read_container, read_head
from penstock_results.housekeeping import Housekeeping
from penstock_results.naming import blob_name, check_key, check_prefix, key_of, new_key
from penstock_results.references import ResultReference
from penstock_results.serializers import Serializer, choose, pickle_allowed, refuse_code, serializer_named

if TYPE_CHECKING:
    from penstock_results.aio import AsyncResultStore

__all__ = ("ResultInfo", "ResultStore")


@dataclass(frozen=True, slots=True)
class ResultInfo:
    """What is known of a stored result without reading its value.

    Attributes:
        key: Where it lies.
        serializer: What wrote it and can load it.
        type: The value's type, for people.
        stored: How many bytes the blob takes where it lies.
        created: When it was written, seconds since the epoch.
        expires: When it stops to exist, seconds since the epoch, or None.
        provenance: Where it came from, as the writer said.
        python: The Python version that wrote it.
    """

    key: str
    serializer: str
    type: str
    stored: int
    created: float
    expires: float | None
    provenance: Mapping[str, Any]
    python: str


class ResultStore(Housekeeping):
    """Keeps values under keys.

    A store is a description, cheap to make and to pickle; it connects when first used, in each process anew. All
    methods block; `aio` has the same ones to await.

    A value that is read may share memory with nothing but itself: change it freely. Large arrays on a local disk are
    mapped, and their pages are copied when first written to.

    Args:
        url: A path, or any URL that fsspec understands: ``file:///var/results``, ``s3://bucket/results``, ...
        serializer: The name of the serializer for values that are written without naming one; by default the value's
            type decides.
        compression: ``"zstd"`` or ``"lz4"``, applied to the parts of a value that gain a fifth by it; None for none.
        allow_pickle: Whether values may be pickled. Whoever can write to a store whose pickles you read can run code
            as you.
        signing_key: If given, every result is signed with HMAC-SHA256 and only results that carry the signature are
            read. At least 16 bytes. It travels with the pickled store, and never lies in it.
        storage_options: What the fsspec filesystem takes: credentials, endpoint, ...
        clock: Tells when results were written and when they expire; only for this process.

    Raises:
        ConfigurationError: If an option cannot work.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        serializer: str | None = None,
        compression: str | None = None,
        allow_pickle: bool = True,
        signing_key: bytes | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._url = whole_url(os.fspath(url))
        self._serializer = serializer
        self._compression = compression
        self._allow_pickle = allow_pickle
        self._signing_key = signing_key.encode() if isinstance(signing_key, str) else signing_key
        self._storage_options = dict(storage_options or {})
        self._clock: Clock = clock or SystemClock()
        if serializer is not None:
            refuse_code(serializer_named(serializer), "", allow_pickle=allow_pickle)
        if compression is not None:
            codec(compression)
        if self._signing_key is not None and len(self._signing_key) < 16:
            raise ConfigurationError("a signing_key of fewer than 16 bytes can be guessed: use secrets.token_bytes(32)")

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._url

    @property
    def storage_options(self) -> Mapping[str, Any]:
        """What the fsspec filesystem was given."""
        return self._storage_options

    @property
    def clock(self) -> Clock:
        """The clock that results expire by."""
        return self._clock

    @cached_property
    def aio(self) -> AsyncResultStore:
        """The same store for coroutines: every method of this class, to await."""
        from penstock_results.aio import AsyncResultStore

        return AsyncResultStore(self)

    def write(
        self,
        value: Any,
        key: str | None = None,
        *,
        serializer: str | None = None,
        expires: datetime | timedelta | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> ResultReference:
        """Store a value; afterwards the key holds all of it, and until then what it held before.

        Args:
            value: The value. It must not change while it is written.
            key: Where to keep it; what is there is replaced. By default a new key is made.
            serializer: The name of the serializer; by default the store's, or what suits the value's type.
            expires: When the result stops to exist: a moment (with time zone) or a time from now; None for never.
            provenance: Where the value comes from, for `info`; JSON's own types.

        Returns:
            A reference, which can be pickled and loaded anywhere the store can be reached.

        Raises:
            ConfigurationError: If an argument cannot work.
            SerializationError: If the serializer cannot take the value; nothing was stored.
            ResultForbidden: If the value needs pickle and the store forbids it.
            ResultError: If the place failed. What the key holds now is the old value or the new one, whole.
        """
        key = new_key() if key is None else check_key(key)
        chosen = self._serializer_for(value, serializer, key)
        head = self._head(value, key, chosen, expires, provenance)
        try:
            written = self._store(value, chosen, head)
        except OSError as error:
            raise ResultError(f"the result {key!r} could not be written to {self._place}: {error}") from error
        return ResultReference(self._url, key, written.size, head.type, written.checksum, self)

    def read(self, key: str | ResultReference) -> Any:
        """Return a stored value.

        Args:
            key: A key, or a reference, which must then give the very value that it was made for.

        Raises:
            ResultMissing: If there is none, or it has expired.
            ResultCorrupt: If what is there is not what was written.
            ResultForbidden: If it is pickled or signed and that does not suit the store.
            ResultError: If the place failed, or the value cannot be loaded in this process.
        """
        return self.find(key)[0]

    def find(self, key: str | ResultReference) -> tuple[Any, ResultReference]:
        """Return what `read` returns, and a reference to this very value."""
        wanted = key.checksum if isinstance(key, ResultReference) else None
        key = check_key(key.key if isinstance(key, ResultReference) else key)
        try:
            blob = self.blobs.read(blob_name(key), private=self._signing_key is not None)
        except FileNotFoundError as error:
            raise self._missing(key) from error
        except OSError as error:
            raise ResultError(f"the result {key!r} could not be read from {self._place}: {error}") from error
        head, frames, written = read_container(blob, key, signing_key=self._signing_key)
        if self._expired(head):
            raise self._missing(key)
        if wanted not in (None, written.checksum):
            raise ResultCorrupt(
                f"the result {key!r} in {self._place} was replaced by another value since it was referred to"
            )
        serializer = serializer_named(head.serializer)
        refuse_code(serializer, key, allow_pickle=self._pickles)
        value = self._load(serializer, frames(), head)
        return value, ResultReference(self._url, key, written.size, head.type, written.checksum, self)

    def info(self, key: str) -> ResultInfo:
        """Return what is known of a result, reading no more than its beginning.

        What it says is checked for accidents, not for a signature: `read` does that.

        Raises:
            ResultMissing: If there is no such result, or it has expired.
            ResultCorrupt: If its head is not what was written.
            ResultError: If the place failed.
        """
        info = self.inspect(check_key(key))
        if info.expires is not None and info.expires <= self._clock.time():
            raise self._missing(key)
        return info

    def inspect(self, key: str) -> ResultInfo:
        """Return what `info` returns, also of a result that has expired and waits for `gc`."""
        name = blob_name(key)
        try:
            start, stored = self.blobs.start(name, HEAD_READ)
            head = read_head(start, key)
            if isinstance(head, int):
                start, stored = self.blobs.start(name, head)
                head = read_head(start, key)
        except FileNotFoundError as error:
            raise self._missing(key) from error
        except OSError as error:
            raise ResultError(f"the result {key!r} could not be read from {self._place}: {error}") from error
        if isinstance(head, int):
            raise ResultCorrupt(f"the result {key!r} in {self._place} is truncated")
        return ResultInfo(
            key, head.serializer, head.type, stored, head.created, head.expires, head.provenance, head.python
        )

    def exists(self, key: str) -> bool:
        """Whether there is a result that has not expired.

        Raises:
            ResultError: If the place failed, or what is there is no result.
        """
        try:
            self.info(key)
        except ResultMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        """Delete one result.

        Raises:
            ResultMissing: If there is none.
            ResultError: If the place failed.
        """
        try:
            self.blobs.delete(blob_name(check_key(key)))
        except FileNotFoundError as error:
            raise self._missing(key) from error
        except OSError as error:
            raise ResultError(f"the result {key!r} could not be deleted from {self._place}: {error}") from error

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that start with a prefix, sorted, including results that have expired and wait for `gc`.

        Raises:
            ConfigurationError: If no key can start like that.
            ResultError: If the place failed.
        """
        try:
            found = [key_of(entry.name) for entry in self.blobs.list(check_prefix(prefix))]
        except OSError as error:
            raise ResultError(f"{self._place} could not be listed: {error}") from error
        return sorted(key for key in found if key is not None)

    @property
    def blobs(self) -> Blobs:
        """The place below: bytes under names, nothing checked."""
        guarded = self._signing_key is not None or not self._pickles
        return connect(self._url, self._storage_options, guarded=guarded)

    @property
    def _pickles(self) -> bool:
        return self._allow_pickle and pickle_allowed()

    @property
    def _place(self) -> str:
        """The URL without what may be a secret in it."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    def _serializer_for(self, value: Any, name: str | None, key: str) -> Serializer:
        name = name or self._serializer
        chosen = choose(value, allow_pickle=self._pickles) if name is None else serializer_named(name)
        refuse_code(chosen, key, allow_pickle=self._pickles)
        return chosen

    def _head(
        self,
        value: Any,
        key: str,
        serializer: Serializer,
        expires: datetime | timedelta | None,
        provenance: Mapping[str, Any] | None,
    ) -> Head:
        now = self._clock.time()
        kind = type(value)
        signed = self._signing_key is not None
        return Head(
            key=key,
            serializer=serializer.name,
            type=kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
            created=now,
            expires=_moment(expires, now),
            provenance=dict(provenance or {}),
            python=sys.version.split()[0],
            digest="sha256" if signed else fastest(),
            signed=signed,
        )

    def _store(self, value: Any, serializer: Serializer, head: Head) -> Written:
        sink = self.blobs.create(blob_name(head.key))
        try:
            compression = None if self._compression is None else codec(self._compression)
            with ContainerWriter(sink, head, codec=compression, key=self._signing_key) as writer:
                _dump(value, serializer, writer, head)
                written = writer.finish()
            sink.commit()
        except BaseException:
            sink.abort()
            raise
        return written

    def _load(self, serializer: Serializer, frames: list[memoryview], head: Head) -> Any:
        try:
            return serializer.load(frames)
        except PenstockError:
            raise
        except Exception as error:
            raise ResultError(
                f"the result {head.key!r} is whole, but this process cannot load the {head.type} in it with the "
                f"serializer {head.serializer!r} (written by Python {head.python}): {type(error).__name__}: {error}"
            ) from error

    def _expired(self, head: Head) -> bool:
        return head.expires is not None and head.expires <= self._clock.time()

    def _missing(self, key: str) -> ResultMissing:
        return ResultMissing(f"there is no result {key!r} in {self._place}, or it has expired")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultStore) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash(self._url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: the description, never a connection or a clock."""
        return {name: value for name, value in self.__dict__.items() if name not in ("aio", "_clock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _clock=SystemClock())


def _dump(value: Any, serializer: Serializer, writer: ContainerWriter, head: Head) -> None:
    try:
        serializer.dump(value, writer)
    except (OSError, PenstockError):
        raise
    except Exception as error:
        raise SerializationError(
            f"the serializer {head.serializer!r} cannot store the result {head.key!r}, a {head.type}: {error}"
        ) from error


def _moment(expires: datetime | timedelta | None, now: float) -> float | None:
    if expires is None:
        return None
    if isinstance(expires, timedelta):
        return now + expires.total_seconds()
    if expires.tzinfo is None:
        raise ConfigurationError(
            f"expires={expires!r} has no time zone: use datetime.now(timezone.utc) + ..., or a timedelta"
        )
    return expires.timestamp()
