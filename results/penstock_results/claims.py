"""Where claims are written down, so that everyone who shares a store sees them.

A claim is a small record under a key and a name of its own: ``<key>/<name>``, with one segment for the key
(`naming.folder_name`). The rules for taking, keeping and inheriting one are in `locks`. They ask little of a place:
write, list, replace and remove, with listings that are true to what was written before. No exclusive creation is
needed, which some object stores lack and some only pretend.

* `DirectoryClaims` for threads and processes of one machine, and for machines that share a file system;
* `BucketClaims` for S3, and `FsspecClaims` for whatever else fsspec reaches;
* `MemoryClaims` for one process.
"""

from __future__ import annotations

import os
import threading  # noqa: TID251 (guards the dict of MemoryClaims; nothing waits on it)
from pathlib import Path
from typing import Any, Protocol

from penstock_results.naming import folder_name

__all__ = ("BucketClaims", "Claims", "DirectoryClaims", "FsspecClaims", "MemoryClaims")


class Claims(Protocol):
    """A place for claims. A record is whole or, for a moment after its creation, empty.

    A listing shows every record that existed before it began and still exists when it ends.
    """

    def names(self, key: str) -> list[str]:
        """The names of the key's records."""
        ...

    def read(self, key: str, name: str) -> bytes | None:
        """A record, or None if there is none."""
        ...

    def create(self, key: str, name: str, record: bytes) -> None:
        """Write a record under a name that nobody else uses."""
        ...

    def replace(self, key: str, name: str, record: bytes) -> bool:
        """Write over a record that exists; False if it does not."""
        ...

    def remove(self, key: str, name: str) -> None:
        """Remove a record, if it exists."""
        ...


class MemoryClaims:
    """Claims among the threads and coroutines of one process."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, bytes]] = {}
        self._guard = threading.Lock()

    def names(self, key: str) -> list[str]:
        """See `Claims`."""
        with self._guard:
            return list(self._records.get(key, ()))

    def read(self, key: str, name: str) -> bytes | None:
        """See `Claims`."""
        with self._guard:
            return self._records.get(key, {}).get(name)

    def create(self, key: str, name: str, record: bytes) -> None:
        """See `Claims`."""
        with self._guard:
            self._records.setdefault(key, {})[name] = record

    def replace(self, key: str, name: str, record: bytes) -> bool:
        """See `Claims`."""
        with self._guard:
            if name not in self._records.get(key, ()):
                return False
            self._records[key][name] = record
            return True

    def remove(self, key: str, name: str) -> None:
        """See `Claims`."""
        with self._guard:
            records = self._records.get(key, {})
            records.pop(name, None)
            if not records:
                self._records.pop(key, None)


class DirectoryClaims:
    """Claims as files, ``<directory>/<key>/<name>``; a key's folder is there only while it is claimed.

    Args:
        directory: Where; made when first needed, for the owner's eyes only.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def names(self, key: str) -> list[str]:
        """See `Claims`."""
        try:
            return [name for name in os.listdir(self._directory / folder_name(key)) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def read(self, key: str, name: str) -> bytes | None:
        """See `Claims`."""
        try:
            return self._path(key, name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, key: str, name: str, record: bytes) -> None:
        """See `Claims`. The record is whole from the start: a claimer killed in between would hold up all others."""
        temporary = self._directory / f".{name}.tmp"
        with open(self._open_new(temporary), "wb") as stream:
            stream.write(record)
        self._move(temporary, self._path(key, name))

    def replace(self, key: str, name: str, record: bytes) -> bool:
        """See `Claims`. The file must not come into being here: whoever removed it has ended the claim."""
        try:
            file = os.open(self._path(key, name), os.O_WRONLY)
        except FileNotFoundError:
            return False
        with open(file, "wb") as stream:
            stream.write(record)
            stream.truncate()
        return True

    def remove(self, key: str, name: str) -> None:
        """See `Claims`."""
        self._path(key, name).unlink(missing_ok=True)
        try:
            os.rmdir(self._directory / folder_name(key))
        except OSError:
            pass  # another claim lies in it, or somebody else removed it first

    def _path(self, key: str, name: str) -> Path:
        return self._directory / folder_name(key) / name

    def _open_new(self, path: Path) -> int:
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)

    def _move(self, temporary: Path, path: Path) -> None:
        while True:
            try:
                os.rename(temporary, path)
                return
            except FileNotFoundError:  # the key's folder is not made yet, or was removed with the last claim in it
                temporary.stat()
                try:
                    os.mkdir(path.parent, mode=0o700)
                except FileExistsError:
                    pass  # somebody else made it, and may remove it again before we get there


class FsspecClaims:
    """Claims as objects, ``<root>/<key>/<name>``, on any file system whose listings are true, as S3's are since 2020.

    Args:
        filesystem: An fsspec file system.
        root: The folder or prefix for the claims, as the file system writes paths.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")

    def names(self, key: str) -> list[str]:
        """See `Claims`."""
        folder = f"{self._root}/{folder_name(key)}"
        self._fs.invalidate_cache(folder)
        try:
            paths: list[str] = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return [path.rpartition("/")[2] for path in paths if not path.endswith("/")]

    def read(self, key: str, name: str) -> bytes | None:
        """See `Claims`."""
        try:
            return bytes(self._fs.cat_file(self._path(key, name)))
        except FileNotFoundError:
            return None

    def create(self, key: str, name: str, record: bytes) -> None:
        """See `Claims`."""
        path = self._path(key, name)
        try:
            self._fs.pipe_file(path, record)
        except FileNotFoundError:
            self._make_folder(path.rpartition("/")[0])
            self._fs.pipe_file(path, record)

    def _make_folder(self, folder: str) -> None:
        self._fs.makedirs(folder, exist_ok=True)

    def replace(self, key: str, name: str, record: bytes) -> bool:
        """See `Claims`. Not atomic: a record removed between the look and the write comes back to life."""
        if self.read(key, name) is None:
            return False
        self._fs.pipe_file(self._path(key, name), record)
        return True

    def remove(self, key: str, name: str) -> None:
        """See `Claims`."""
        try:
            self._fs.rm_file(self._path(key, name))
        except FileNotFoundError:
            pass  # somebody else removed it first

    def _path(self, key: str, name: str) -> str:
        return f"{self._root}/{folder_name(key)}/{name}"


class BucketClaims(FsspecClaims):
    """Claims as objects in a bucket, where no folders are to be made.

    A bucket that is not there was misspelled. Making one would be a folder's way to help, and cost money.
    """

    def _make_folder(self, folder: str) -> None:
        raise FileNotFoundError(f"there is no bucket {folder.partition('/')[0]!r}")
