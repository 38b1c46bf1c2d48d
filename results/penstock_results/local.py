"""Blobs as files.

Every step starts at an open descriptor of the folder before it and refuses symbolic links, so that no swap of a
folder for a link, at any moment, leads out of the store. A file is written under a name of its own beside the
target, synced, renamed over the target, and the folder is synced: after a crash or a power cut there is the old
file, the new file or none.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import uuid
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

from penstock.errors import ConfigurationError, ResultForbidden
from penstock_results.blobs import MAPPED, Bytes, Entry, allocate

__all__ = ("LocalBlobs",)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TEMPORARY = ".tmp"
_ATTEMPTS = 10


class LocalBlobs:
    """A folder of files.

    Args:
        root: The folder; made with mode 0700 when first written to.
        guarded: Whether a folder that others can write to is acceptable.
    """

    def __init__(self, root: str, *, guarded: bool) -> None:
        self._root = root
        self._guarded = guarded

    def create(self, name: str) -> _FileSink:
        """Open a temporary file beside the target.

        A folder can vanish while we are in it, because a deleter found it empty; then we start over.
        """
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):
                return _FileSink(*self._enter(name, make=True))
        raise OSError(errno.EBUSY, "its folder is deleted as often as it is made", name)

    def read(self, name: str, *, private: bool) -> memoryview:
        """Map a large file, copy-on-write; read a small one."""
        with self._opened(name) as file:
            size = os.fstat(file).st_size
            if size >= MAPPED and not private:
                return memoryview(mmap.mmap(file, size, access=mmap.ACCESS_COPY))
            return _read(file, size)

    def start(self, name: str, size: int) -> tuple[memoryview, int]:
        """Read the beginning of the file."""
        with self._opened(name) as file:
            total = os.fstat(file).st_size
            return _read(file, min(size, total)), total

    def list(self, prefix: str) -> Iterator[Entry]:
        """Walk the folders that the prefix allows."""
        for name, entry in self._walk(prefix):
            if name.startswith(prefix) and not entry.name.startswith("."):
                with suppress(FileNotFoundError):  # deleted since the folder was read
                    status = entry.stat(follow_symlinks=False)
                    yield Entry(name, status.st_size, status.st_mtime)

    def delete(self, name: str) -> None:
        """Unlink the file, and its folders as far as that leaves them empty."""
        folder, leaf = self._enter(name)
        try:
            os.unlink(leaf, dir_fd=folder)
        finally:
            os.close(folder)
        parts = name.split("/")[:-1]
        while parts:
            try:
                self._remove_folder("/".join(parts))
            except OSError:
                return  # not empty, or gone already
            parts.pop()

    def orphans(self, before: float) -> Iterator[str]:
        """Find temporary files that nobody has written to since."""
        for name, entry in self._walk(""):
            if entry.name.startswith(".") and entry.name.endswith(_TEMPORARY):
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        yield name

    def sweep(self, orphan: str) -> None:
        """Unlink a temporary file."""
        with suppress(FileNotFoundError):
            self.delete(orphan)

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Go through all files below the folder part of the prefix, in our folders only."""
        pending = [prefix.rpartition("/")[0]]
        while pending:
            folder = pending.pop()
            try:
                entries = list(os.scandir(os.path.join(self._root, folder)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_file(follow_symlinks=False):
                    yield name, entry
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(name)

    def _remove_folder(self, name: str) -> None:
        parent, leaf = self._enter(name)
        try:
            os.rmdir(leaf, dir_fd=parent)
        finally:
            os.close(parent)

    @contextmanager
    def _opened(self, name: str) -> Generator[int]:
        folder, leaf = self._enter(name)
        try:
            file = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise _explained(error, name) from error
        finally:
            os.close(folder)
        try:
            yield file
        finally:
            os.close(file)

    def _enter(self, name: str, *, make: bool = False) -> tuple[int, str]:
        """Open the folder that holds the name; the caller closes it."""
        *folders, leaf = name.split("/")
        current = self._open_root(make=make)
        try:
            for folder in folders:
                current = _step(current, folder, make=make)
        except OSError as error:
            os.close(current)
            raise _explained(error, name) from error
        return current, leaf

    def _open_root(self, *, make: bool) -> int:
        if make:
            os.makedirs(self._root, mode=0o700, exist_ok=True)
        root = os.open(self._root, _FOLDER)
        mode = os.fstat(root).st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not self._guarded:
            os.close(root)
            raise ConfigurationError(
                f"other users can write to the result folder {self._root!r} (mode {stat.S_IMODE(mode):04o}), and who "
                "writes a pickled result runs code where it is read: chmod it to 0700, sign results with signing_key=, "
                "or open the store with allow_pickle=False"
            )
        return root


class _FileSink:
    """A temporary file, and the open folder that it and its target lie in."""

    def __init__(self, folder: int, leaf: str) -> None:
        self._folder = folder
        self._leaf = leaf
        self._temporary = f".{uuid.uuid4().hex}{_TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(self._temporary, flags, mode=0o600, dir_fd=folder)
        except BaseException:
            os.close(folder)
            raise
        # A writer that is interrupted between two calls (Ctrl-C) leaves its file to `gc`, but not its descriptors.
        self._closing = weakref.finalize(self, _close_both, self._file, folder)

    def write(self, data: Bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def commit(self) -> None:
        os.fsync(self._file)
        os.rename(self._temporary, self._leaf, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)
        self._closing()

    def abort(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._temporary, dir_fd=self._folder)
        self._closing()


def _close_both(file: int, folder: int) -> None:
    os.close(file)
    os.close(folder)


def _step(current: int, folder: str, *, make: bool) -> int:
    """Exchange an open folder for one inside it."""
    try:
        inner = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=current)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):  # another writer was faster
            os.mkdir(folder, mode=0o700, dir_fd=current)
            os.fsync(current)
        inner = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=current)
    os.close(current)
    return inner


def _read(file: int, size: int) -> memoryview:
    view = allocate(size)
    done = 0
    while done < size:
        count = os.readv(file, [view[done:]])
        if count == 0:
            break  # shorter than it said: what is missing reads as zeros, which the checksums refuse
        done += count
    return view


def _explained(error: OSError, name: str) -> Exception:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return ResultForbidden(f"a symbolic link or a foreign file stands in the way of {name!r}: remove it")
    return error
