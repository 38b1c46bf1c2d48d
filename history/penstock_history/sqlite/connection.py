"""Connections to a history's file, and how to keep them from harm.

SQLite has three enemies here, and each is met in one place:

* Two connections that write or checkpoint at the same instant can corrupt a database before SQLite 3.51.3 (the
  "WAL reset" bug), and every Python of today links an older one. So all that changes the file happens under one lock
  of the file system (`WriteLock`), over all processes.
* A process that forks while it has a connection open cannot use SQLite on that file in the child, not even through a
  new connection. So connections are closed before a fork and opened again when they are next needed (`Handle`).
* After an error a connection may be in any state. It is closed, which rolls back what was not committed.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading  # noqa: TID251 (a fork waits until no connection is in use)
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from penstock.errors import HistoryError
from penstock_history.sqlite.filesystems import network_kind

__all__ = ("Handle", "WriteLock", "connect", "create")

_OLDEST = (3, 38, 0)
_PATIENCE = 60.0
"""Seconds that SQLite waits for another process's recovery of the file; nothing else here ever waits for its locks."""


class WriteLock:
    """The right to change the file, which one thread of one process has at a time.

    Args:
        database: The history's file.

    Raises:
        OSError: If the lock's file cannot be made.
    """

    def __init__(self, database: Path) -> None:
        self._descriptor = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with _guard:
            _locks.add(self)

    @contextmanager
    def held(self) -> Generator[None, None, None]:
        """Wait for the right, and have it for the block."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give up the descriptor."""
        with _guard:
            if self not in _locks:
                return
            _locks.remove(self)
        os.close(self._descriptor)


class Handle:
    """A connection that is there when it is needed, and not while the process forks or after an error.

    Args:
        connect: Opens it.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._in_use = threading.Lock()
        with _guard:
            _handles.add(self)

    @contextmanager
    def use(self) -> Generator[sqlite3.Connection, None, None]:
        """Have the connection for the block.

        Raises:
            sqlite3.Error: If there can be none, or out of the block.
        """
        with self._in_use:
            if self._connection is None:
                self._connection = self._connect()
            try:
                yield self._connection
            except BaseException:
                self._close()
                raise

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._in_use:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def create(path: Path) -> None:
    """Make the folder and an empty file for a history, unless they are there; only their owner may read them.

    Raises:
        HistoryError: If SQLite is too old, or the place is not safe for a history.
        OSError: If they cannot be made.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise HistoryError(
            f"This Python has SQLite {sqlite3.sqlite_version}; a history needs 3.38 or later. Use a newer Python, or a "
            "PostgreSQL database: history='postgresql://...'."
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if kind := network_kind(path.parent):
        raise HistoryError(
            f"{path.parent} is on a network file system ({kind}), where SQLite's locks do not hold and the history "
            "would be corrupted. Give a path on a local disk, or let machines share a PostgreSQL database: "
            "history='postgresql://...'."
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        _check_private(path)
    else:
        _sync_folder(path.parent)


def connect(path: Path, mode: Literal["rw", "ro"], *pragmas: str) -> sqlite3.Connection:
    """Open the file as it is.

    Args:
        path: The file.
        mode: Whether it may be written, or only read.
        pragmas: What the connection is told first.

    Raises:
        sqlite3.Error: If that is not possible.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for pragma in ("mmap_size = 0", *pragmas):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_private(path: Path) -> None:
    """Refuse a file that others may write: a resumed run imports what the history names."""
    if path.is_dir():
        raise HistoryError(f"{path} is a folder. Give the path of a file: {path / 'history.db'}.")
    mode = path.stat().st_mode
    if mode & 0o022:
        raise HistoryError(
            f"{path} may be written by other users of this machine (mode {mode & 0o777:o}), who could make a resumed "
            f"run execute what they like. Run: chmod go-w {path}"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_handles = weakref.WeakSet[Handle]()
_locks = weakref.WeakSet[WriteLock]()
_guard = threading.Lock()
_held_for_fork: list[Handle] = []


def _before_fork() -> None:
    _guard.acquire()
    _held_for_fork[:] = _handles
    for handle in _held_for_fork:
        handle._in_use.acquire()
        handle._close()


def _after_fork() -> None:
    while _held_for_fork:
        _held_for_fork.pop()._in_use.release()
    _guard.release()


def _after_fork_in_child() -> None:
    """Whoever dies with the lock must not leave it to a child."""
    _after_fork()
    for lock in list(_locks):
        lock.close()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
