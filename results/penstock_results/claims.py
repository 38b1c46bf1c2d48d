"""Where claims are written down, so that everyone who shares a store sees them.

A claim is a small record under a key and a number: ``<key>/<number>``. The rules for taking, keeping and inheriting
one are in `locks`; a place for claims only has to create a record exclusively, list, replace and remove.

* `DirectoryClaims` for threads and processes of one machine, and for machines that share a file system;
* `FsspecClaims` for object stores and whatever else fsspec reaches;
* `MemoryClaims` for one process.
"""

from __future__ import annotations

import os
import threading  # noqa: TID251 (guards the dict of MemoryClaims; nothing waits on it)
from pathlib import Path
from typing import Any, Protocol

__all__ = ("Claims", "DirectoryClaims", "FsspecClaims", "MemoryClaims")


class Claims(Protocol):
    """A place for claims. Records are whole or, for a moment after their creation, empty.

    A listing shows every record that existed before it began and still exists when it ends.
    """

    def numbers(self, key: str) -> list[int]:
        """The numbers of the key's records."""
        ...

    def read(self, key: str, number: int) -> bytes | None:
        """A record, or None if there is none."""
        ...

    def create(self, key: str, number: int, record: bytes) -> bool:
        """Write a record that does not exist yet; False if it does. Of several callers one gets True."""
        ...

    def replace(self, key: str, number: int, record: bytes) -> bool:
        """Write over a record that exists; False if it does not."""
        ...

    def remove(self, key: str, number: int) -> None:
        """Remove a record, if it exists."""
        ...


class MemoryClaims:
    """Claims among the threads and coroutines of one process."""

    def __init__(self) -> None:
        self._records: dict[str, dict[int, bytes]] = {}
        self._guard = threading.Lock()

    def numbers(self, key: str) -> list[int]:
        """See `Claims`."""
        with self._guard:
            return list(self._records.get(key, ()))

    def read(self, key: str, number: int) -> bytes | None:
        """See `Claims`."""
        with self._guard:
            return self._records.get(key, {}).get(number)

    def create(self, key: str, number: int, record: bytes) -> bool:
        """See `Claims`."""
        with self._guard:
            return self._records.setdefault(key, {}).setdefault(number, record) is record

    def replace(self, key: str, number: int, record: bytes) -> bool:
        """See `Claims`."""
        with self._guard:
            if number not in self._records.get(key, ()):
                return False
            self._records[key][number] = record
            return True

    def remove(self, key: str, number: int) -> None:
        """See `Claims`."""
        with self._guard:
            records = self._records.get(key, {})
            records.pop(number, None)
            if not records:
                self._records.pop(key, None)


class DirectoryClaims:
    """Claims as files, ``<directory>/<key>/<number>``; a key's folder is there only while it is claimed.

    Args:
        directory: Where; made when first needed, for the owner's eyes only.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def numbers(self, key: str) -> list[int]:
        """See `Claims`."""
        try:
            names = os.listdir(self._directory / key)
        except FileNotFoundError:
            return []
        return [int(name) for name in names if name.isdecimal()]

    def read(self, key: str, number: int) -> bytes | None:
        """See `Claims`."""
        try:
            return self._path(key, number).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, key: str, number: int, record: bytes) -> bool:
        """See `Claims`."""
        try:
            file = self._open_new(self._path(key, number))
        except FileExistsError:
            return False
        with open(file, "wb") as stream:
            stream.write(record)
        return True

    def replace(self, key: str, number: int, record: bytes) -> bool:
        """See `Claims`. The file must not come into being here: whoever removed it has ended the claim."""
        try:
            file = os.open(self._path(key, number), os.O_WRONLY)
        except FileNotFoundError:
            return False
        with open(file, "wb") as stream:
            stream.write(record)
            stream.truncate()
        return True

    def remove(self, key: str, number: int) -> None:
        """See `Claims`."""
        self._path(key, number).unlink(missing_ok=True)
        try:
            os.rmdir(self._directory / key)
        except OSError:
            pass  # another claim lies in it, or somebody else removed it first

    def _path(self, key: str, number: int) -> Path:
        return self._directory / key / str(number)

    def _open_new(self, path: Path) -> int:
        while True:
            try:
                return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            except FileNotFoundError:  # not made yet, or removed with the last claim in it
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.parent.mkdir(mode=0o700, exist_ok=True)


class FsspecClaims:
    """Claims as objects, ``<root>/<key>/<number>``.

    As strong as the file system's exclusive creation. Amazon's S3 and Ceph honour it (``If-None-Match``), fsspec's
    local and memory file systems nearly do; where it is ignored, two callers at the very same moment are told apart
    only by who wrote last, and on a bad day both run.

    Args:
        filesystem: An fsspec file system.
        root: The folder or prefix for the claims, as the file system writes paths.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")

    def numbers(self, key: str) -> list[int]:
        """See `Claims`."""
        folder = f"{self._root}/{key}"
        self._fs.invalidate_cache(folder)
        try:
            paths: list[str] = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        names = [path.rstrip("/").rpartition("/")[2] for path in paths]
        return [int(name) for name in names if name.isdecimal()]

    def read(self, key: str, number: int) -> bytes | None:
        """See `Claims`."""
        try:
            return bytes(self._fs.cat_file(self._path(key, number)))
        except FileNotFoundError:
            return None

    def create(self, key: str, number: int, record: bytes) -> bool:
        """See `Claims`."""
        if self.read(key, number) is not None:
            return False
        try:
            self._create(self._path(key, number), record)
        except OSError as error:
            if not _says_it_exists(error):
                raise
            return False
        return self.read(key, number) == record

    def replace(self, key: str, number: int, record: bytes) -> bool:
        """See `Claims`. Not atomic: a record removed between the look and the write comes back to life."""
        if self.read(key, number) is None:
            return False
        self._fs.pipe_file(self._path(key, number), record)
        return True

    def remove(self, key: str, number: int) -> None:
        """See `Claims`."""
        try:
            self._fs.rm_file(self._path(key, number))
        except FileNotFoundError:
            pass  # somebody else removed it first

    def _create(self, path: str, record: bytes) -> None:
        try:
            self._fs.pipe_file(path, record, mode="create")
        except FileNotFoundError:  # a file system with real folders
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, record, mode="create")

    def _path(self, key: str, number: int) -> str:
        return f"{self._root}/{key}/{number}"


def _says_it_exists(error: OSError) -> bool:
    """Whether a failed exclusive write means that somebody else was first; S3 has two ways of saying so."""
    if isinstance(error, FileExistsError):
        return True
    answer: Any = getattr(error.__cause__, "response", None) or {}
    return answer.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
