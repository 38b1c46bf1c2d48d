"""Blobs on any filesystem that fsspec knows, and in memory."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from penstock.errors import ConfigurationError
from penstock_results.blobs import Bytes, Entry, Sink, allocate

__all__ = ("MemoryBlobs", "RemoteBlobs")

_TEMPORARY = ".tmp"


class RemoteBlobs:
    """Blobs on a filesystem of fsspec's.

    Nothing is known of how such a filesystem publishes what is written; so a blob is written under a temporary name
    and moved, which is one server-side step wherever renaming or copying is.

    Args:
        url: Where the blobs lie.
        options: What the filesystem takes.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        core = importlib.import_module("fsspec.core")
        try:
            self._fs, root = core.url_to_fs(url, **options)
        except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
            raise ConfigurationError(f"no result store can be opened at {url!r}: {error}") from error
        self._root = root.rstrip("/")

    def create(self, name: str) -> Sink:
        """Open a temporary file beside the target."""
        path = self._path(name)
        parent, _, _ = path.rpartition("/")
        self._fs.makedirs(parent, exist_ok=True)
        return _RemoteSink(self._fs, path, f"{parent}/.{uuid.uuid4().hex}{_TEMPORARY}")

    def read(self, name: str, *, private: bool) -> memoryview:
        """Read the file into one buffer."""
        with self._fs.open(self._path(name), "rb", cache_type="none") as file:
            view = allocate(file.size)
            done = 0
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    break  # shorter than it said: what is missing reads as zeros, which the checksums refuse
                done += count
        return view

    def start(self, name: str, size: int) -> tuple[memoryview, int]:
        """Read the beginning of the file."""
        path = self._path(name)
        total = self._fs.info(path, refresh=True)["size"]
        return memoryview(bytearray(self._fs.cat_file(path, start=0, end=min(size, total)))), total

    def list(self, prefix: str) -> Iterator[Entry]:
        """List the folder part of the prefix."""
        for name, detail in self._find(prefix.rpartition("/")[0]):
            if name.startswith(prefix) and not name.rpartition("/")[2].startswith("."):
                yield Entry(name, detail["size"], self._modified(detail))

    def delete(self, name: str) -> None:
        """Delete the file."""
        self._fs.rm_file(self._path(name))

    def orphans(self, before: float) -> Iterator[str]:
        """Find temporary files that are older."""
        for name, detail in self._find(""):
            leaf = name.rpartition("/")[2]
            if leaf.startswith(".") and leaf.endswith(_TEMPORARY) and self._modified(detail) < before:
                yield name

    def sweep(self, orphan: str) -> None:
        """Delete a temporary file."""
        with suppress(FileNotFoundError):
            self.delete(orphan)

    def _find(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        base = f"{self._root}/{folder}".rstrip("/")
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(base, detail=True)
        except FileNotFoundError:
            return
        for path, detail in found.items():
            yield path[len(self._root) + 1 :], detail

    def _modified(self, detail: Mapping[str, Any]) -> float:
        for field in ("mtime", "LastModified", "last_modified", "updated", "created"):
            value = detail.get(field)
            if value is not None:
                return float(value) if isinstance(value, int | float) else float(value.timestamp())
        return float(self._fs.modified(detail["name"]).timestamp())

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


class _RemoteSink:
    def __init__(self, fs: Any, path: str, temporary: str) -> None:
        self._fs = fs
        self._path = path
        self._temporary = temporary
        self._file = fs.open(temporary, "wb")

    def write(self, data: Bytes) -> None:
        self._file.write(data)

    def commit(self) -> None:
        self._file.close()
        self._fs.mv(self._temporary, self._path)

    def abort(self) -> None:
        self._file.close()
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._temporary)


class MemoryBlobs(RemoteBlobs):
    """Blobs in fsspec's ``memory://``, which lives as long as this process and is seen by nobody else.

    Its own way to write a file shows it while it grows, and its own way to move one copies it; here a file is
    renamed by one step of its dictionary.
    """

    def create(self, name: str) -> Sink:
        """Start a file that has no name yet."""
        return _MemorySink(self._fs, self._path(name))

    def read(self, name: str, *, private: bool) -> memoryview:
        """Copy the file, so that whoever changes the value does not change what is stored."""
        with self._stored(name) as stored:
            view = allocate(len(stored))
            view[:] = stored
        return view

    def start(self, name: str, size: int) -> tuple[memoryview, int]:
        """Copy the beginning of the file."""
        with self._stored(name) as stored:
            return memoryview(bytearray(stored[:size])), len(stored)

    def _stored(self, name: str) -> memoryview:
        try:
            view: memoryview = self._fs.store[self._path(name)].getbuffer()
        except KeyError:
            raise FileNotFoundError(name) from None
        return view


class _MemorySink:
    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._path = path
        self._file = importlib.import_module("fsspec.implementations.memory").MemoryFile(fs, path)

    def write(self, data: Bytes) -> None:
        self._file.write(data)

    def commit(self) -> None:
        self._fs.store[self._path] = self._file

    def abort(self) -> None:
        self._file.close()
