"""What a result store needs from a place that keeps bytes, and how a URL becomes such a place.

Everything that knows about containers, serializers and keys is above this line, everything that knows about
files, memory and object stores below it.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

from penstock.errors import ConfigurationError

__all__ = ("BUCKETS", "MAPPED", "Blobs", "Bytes", "Entry", "Sink", "allocate", "connect", "local_path", "whole_url")

Bytes: TypeAlias = bytes | bytearray | memoryview


class Entry(NamedTuple):
    """One blob in a listing; `modified` is in seconds since the epoch on the clock of whoever keeps the blob."""

    name: str
    size: int
    modified: float


class Sink(Protocol):
    """A blob in the making. Nobody sees any of it before `commit`, and everybody sees all of it afterwards."""

    def write(self, data: Bytes) -> None:
        """Append; the data must stay as they are until `commit` or `abort` has returned, for they may not be copied."""
        ...

    def commit(self) -> None:
        """Publish the blob, in place of any older one, once it is as safe as the place can make it."""
        ...

    def abort(self) -> None:
        """Leave nothing behind. Allowed after a `commit` that raised."""
        ...


class Blobs(Protocol):
    """A place that keeps bytes under names; an absent name is a `FileNotFoundError`, any other trouble an `OSError`."""

    def create(self, name: str) -> Sink:
        """Start a blob."""
        ...

    def read(self, name: str, *, private: bool) -> memoryview:
        """Return the whole blob in writable memory of its own.

        Args:
            name: The blob.
            private: Whether nobody else may be able to change that memory any more. If not, it may be a
                copy-on-write map of a file.
        """
        ...

    def start(self, name: str, size: int) -> tuple[memoryview, int]:
        """Return the first bytes, at most ``size`` of them, and the size of the whole blob."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Go through the blobs whose names start with the prefix, in no order."""
        ...

    def delete(self, name: str) -> None:
        """Delete one blob."""
        ...

    def orphans(self, before: float) -> Iterator[str]:
        """Go through what writers that died before that time (seconds since the epoch) left behind."""
        ...

    def sweep(self, orphan: str) -> None:
        """Delete one orphan; it is no error if it is gone."""
        ...


BUCKETS = ("s3", "s3a")
"""The schemes of S3."""

MAPPED = 1 << 20
"""From this size on memory comes in pages, already zero, and local files are mapped.

Below it, reading into a buffer is as fast: benchmarks/results.py, table "small".
"""


def allocate(size: int) -> memoryview:
    """Return zeroed, writable memory."""
    return memoryview(bytearray(size) if size < MAPPED else mmap.mmap(-1, size))


_BEGINS_LIKE_A_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")


def whole_url(given: str) -> str:
    """Return the URL of what a user names: a path, or a URL of any kind.

    Raises:
        ConfigurationError: If it begins like a URL and is none, or names no bucket. An empty variable in it is easily
            overlooked, and would make a folder that nobody looks for.
    """
    path = local_path(given)
    if path is not None:
        if "://" not in given and (beginning := _BEGINS_LIKE_A_URL.match(given)):
            raise ConfigurationError(
                f"{given!r} is neither a URL, as {beginning[0]}//... would be, nor a path, unless you write ./{given}."
            )
        return f"file://{path}"
    scheme, slashes, rest = given.partition("://")
    if scheme in BUCKETS and not rest.partition("/")[0]:
        raise ConfigurationError(f"{given!r} names no bucket: write {scheme}://bucket/prefix.")
    return f"{scheme}{slashes}{rest.rstrip('/')}"


def local_path(url: str) -> str | None:
    """Return the path that a URL without a scheme or with ``file://`` means, or None for any other URL."""
    if "://" not in url:
        return os.path.abspath(os.path.expanduser(url))
    parts = urlsplit(url)
    if parts.scheme not in ("file", "local"):
        return None
    if parts.netloc not in ("", "localhost"):
        raise ConfigurationError(f"{url!r} names the host {parts.netloc!r}: a file URL has three slashes, file:///path")
    return os.path.abspath(unquote(parts.path))


# A client of an object store takes a tenth of a second and a connection to make, and stores travel by URL and arrive
# often. A forked child must not use its parent's, hence the process id.
_connected: dict[tuple[int, str, str], Blobs] = {}


def connect(url: str, options: Mapping[str, Any], *, guarded: bool) -> Blobs:
    """Return the place that a URL names, the same one for the same URL and options in one process.

    Args:
        url: A path or any URL that fsspec understands.
        options: What the fsspec filesystem takes.
        guarded: Whether others may be able to write there, because nothing that is read can run code unverified.
    """
    identity = (os.getpid(), url, repr((guarded, sorted(options.items()))))
    blobs = _connected.get(identity)
    if blobs is None:
        blobs = _connected.setdefault(identity, _connect(url, options, guarded=guarded))
    return blobs


def _connect(url: str, options: Mapping[str, Any], *, guarded: bool) -> Blobs:
    path = local_path(url)
    if path is not None:
        from penstock_results.local import LocalBlobs

        return LocalBlobs(path, guarded=guarded)
    scheme = urlsplit(url).scheme
    if scheme in BUCKETS:
        from penstock_results.s3 import S3Blobs

        return S3Blobs(url, options)
    from penstock_results.remote import MemoryBlobs, RemoteBlobs

    return MemoryBlobs(url, options) if scheme == "memory" else RemoteBlobs(url, options)
