"""Who is alive: locks that the operating system gives back.

Each process that records holds a lock on one byte of a file beside the history, the one whose number is its owner's
id. The kernel takes the lock away when the process ends, however it ends, and at no other time: a process that is
stopped, blocks its loop or holds the interpreter's lock keeps it. So nobody is ever taken for dead who lives, nobody
has to wait to be sure, and no clock is asked.

They are POSIX locks and not those of ``flock``, because a forked child does not inherit them. They have one trap: a
process that closes any descriptor of the file loses all its locks on it. So a process opens the file once, and keeps
it open until it ends.
"""

from __future__ import annotations

import os
import threading  # noqa: TID251 (two threads may ask for the same file)
from pathlib import Path

from penstock.errors import HistoryError

try:
    import fcntl
except ImportError as error:  # pragma: no cover (Windows)
    raise HistoryError(
        "A history in a file needs POSIX file locks, which this system does not have. Use a PostgreSQL database: "
        "history='postgresql://...'."
    ) from error

__all__ = ("OwnerLocks",)


class OwnerLocks:
    """The locks of the processes that record in one history; get it from `beside`.

    Args:
        descriptor: The open file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mine: set[int] = set()

    @staticmethod
    def beside(database: Path) -> OwnerLocks:
        """The owners of a history; the same object whenever this process asks.

        Raises:
            OSError: If the file cannot be made.
        """
        path = f"{database}.owners"
        with _guard:
            identity = _identity(path)
            return _known[identity] if identity in _known else _open(path)

    @staticmethod
    def are_beside(database: Path) -> bool:
        """Whether anybody has ever recorded in a history."""
        return _identity(f"{database}.owners") is not None

    def claim(self, owner: int) -> None:
        """Say that this process is the owner with this number, until it ends or releases it."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, owner)
        self._mine.add(owner)

    def release(self, owner: int) -> None:
        """Say that this process records no more as this owner."""
        self._mine.discard(owner)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, owner)

    def is_claimed(self, owner: int) -> bool:
        """Whether it is this process that records as this owner."""
        return owner in self._mine

    def is_alive(self, owner: int) -> bool:
        """Whether the process with this number still runs and records."""
        if owner in self._mine:
            return True  # a process's own locks never stand in its way
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, owner)
        except (BlockingIOError, PermissionError):  # POSIX lets the kernel say either
            return True
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, owner)
        return False


_known: dict[tuple[int, int], OwnerLocks] = {}
_guard = threading.Lock()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino


def _open(path: str) -> OwnerLocks:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a folder that may only be read: whoever is alive can still be seen
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    facts = os.fstat(descriptor)
    owners = _known[facts.st_dev, facts.st_ino] = OwnerLocks(descriptor)
    return owners


def _after_fork() -> None:
    """A child has none of its parent's locks; the descriptors are of no use to it."""
    global _guard
    _guard = threading.Lock()
    for owners in _known.values():
        owners._mine.clear()
        os.close(owners._descriptor)
    _known.clear()


os.register_at_fork(after_in_child=_after_fork)
