"""What workers on this machine did that did not live to tell.

A worker writes down which call of a submission it enters first, and every outcome before it goes on to the next call.
What was written outlives a process that is killed. So the driver knows what a lost worker had done, which stands, and
what it never began, which can be sent again without repeating anything: a worker that dies takes along the one call
that it was at.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = ("Entry", "Journal", "Page")

_ENTRY = struct.Struct("<qq")
_HEAD = struct.Struct("<qq")


class Entry(NamedTuple):
    """What is known of a submission.

    Attributes:
        worker: The process that had it, 0 if none has entered a call of it.
        entered: How many of its calls may have been entered, its first ones.
        outcomes: Those of the calls that had ended.
    """

    worker: int
    entered: int
    outcomes: list[bytes]


class Journal:
    """The driver's side.

    Attributes:
        path: The folder, where workers find it too.
    """

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="penstock-journal-")
        self._entries = os.open(_entries(self.path), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self, number: int) -> Entry:
        """Look a submission up."""
        found = os.pread(self._entries, _ENTRY.size, number * _ENTRY.size)
        worker, entered = _ENTRY.unpack(found) if len(found) == _ENTRY.size else (0, 0)
        file, outcomes = _spool(self.path, number), list[bytes]()
        content, start = file.read_bytes() if file.exists() else b"", 0
        while start + _HEAD.size <= len(content):
            length, index = _HEAD.unpack_from(content, start)
            start += _HEAD.size
            if start + length > len(content):  # the worker was killed while it wrote
                break
            outcomes += [content[start : start + length]] if length else []
            entered = index + 2  # and the next one, which it went on to
            start += length
        return Entry(worker, entered, outcomes)

    def forget(self, number: int) -> None:
        """Drop what was written of a submission that has ended."""
        _spool(self.path, number).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        os.close(self._entries)
        shutil.rmtree(self.path)


class Page:
    """The worker's side: one submission.

    Args:
        path: The journal's folder.
        number: The submission.
    """

    def __init__(self, path: str, number: int) -> None:
        self._path = path
        self._number = number
        self._spool = -1
        self._next = -1

    def enter(self, index: int) -> None:
        """Write down that the call at ``index`` is entered, unless that follows from what is written."""
        if self._next < 0:
            os.pwrite(_descriptor(self._path), _ENTRY.pack(os.getpid(), index + 1), self._number * _ENTRY.size)
            self._next = index
        elif index != self._next:  # the call before it was left out, or left nothing that could be kept
            self.add(index - 1, b"")

    def add(self, index: int, outcome: bytes) -> None:
        """Write down the outcome of the call at ``index``, and with it that the next one is entered."""
        if self._spool < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._spool = os.open(_spool(self._path, self._number), flags, 0o600)
        os.write(self._spool, _HEAD.pack(len(outcome), index) + outcome)
        self._next = index + 1

    def close(self) -> None:
        """Let go of the file; the driver removes it when it has the outcomes."""
        if self._spool >= 0:
            os.close(self._spool)


@lru_cache(maxsize=64)
def _descriptor(path: str) -> int:
    """One open file for each driver; a worker on the driver's machine works for few."""
    return os.open(_entries(path), os.O_WRONLY | os.O_CLOEXEC)


def _entries(path: str) -> Path:
    return Path(path, "entries")


def _spool(path: str, number: int) -> Path:
    return Path(path, f"outcomes-{number}")
