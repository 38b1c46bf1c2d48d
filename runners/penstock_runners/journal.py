"""What workers on this machine did that did not live to tell, and how to keep them from doing more.

A worker writes down which call of a submission it enters first, and every outcome before it goes on to the next call.
What was written outlives a process that is killed. So the driver knows what a lost worker had done, which stands, and
what it never began, which can be sent again without repeating anything: a worker that dies takes along the one call
that it was at.

A worker that the cluster has given up may yet be alive: it was stopped, or its connection broke. So before the driver
looks, it puts up a fence, and a worker looks for the fence after it has written down that it goes on. Whatever the
order, at least one of them sees the other's word, provided that neither processor lets the look overtake the word:
taking and releasing a lock between the two keeps it from that.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import sys
import tempfile
import threading  # noqa: TID251 (its lock is the memory barrier)
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = ("Entry", "Journal", "Page")

# The board has a line for each submission: its number counted from 1, the worker's process, how many calls it had
# entered when it began; and, written by the driver, the number again as a fence.
_LINE = struct.Struct("<qqq")
_FENCE = struct.Struct("<q")
_WIDTH = _LINE.size + _FENCE.size
_LINES = 8_192
"""Submissions that are out at a time; of one whose line was taken by a later one nothing is known."""

_HEAD = struct.Struct("<qq")
_barrier = threading.Lock()


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
        Path(self.path, "board").write_bytes(bytes(_LINES * _WIDTH))
        self._board = _open_board(self.path)

    def has_begun(self, number: int) -> bool:
        """Whether a worker has entered a call of a submission."""
        return self._line(number)[1] > 0

    def fence(self, number: int) -> Entry:
        """Keep any worker from entering more calls of a submission, and look up what was entered."""
        _FENCE.pack_into(self._board, _place(number) + _LINE.size, number + 1)
        with _barrier:
            pass
        worker, entered = self._line(number)
        file, outcomes = _spool(self.path, number), list[bytes]()
        content, start = file.read_bytes() if file.exists() else b"", 0
        while start + _HEAD.size <= len(content):
            length, index = _HEAD.unpack_from(content, start)
            start += _HEAD.size
            if start + length > len(content):  # the worker was killed while it wrote
                break
            outcomes += [content[start : start + length]] if length else []
            entered = max(entered, index + 2)  # and the next one, which it went on to
            start += length
        return Entry(worker, entered, outcomes)

    def _line(self, number: int) -> tuple[int, int]:
        found, worker, entered = _LINE.unpack_from(self._board, _place(number))
        if found > number + 1:
            return 0, sys.maxsize
        return (worker, entered) if found == number + 1 else (0, 0)

    def forget(self, number: int) -> None:
        """Drop what was written of a submission that has ended."""
        _spool(self.path, number).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        self._board.close()
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
        self._board = _board(path)
        self._spool = -1
        self._next = -1

    def enter(self, index: int) -> bool:
        """Write down that the call at ``index`` is entered, unless that is written; False if it must not be."""
        if self._next < 0:
            _LINE.pack_into(self._board, _place(self._number), self._number + 1, os.getpid(), index + 1)
            self._next = index
        elif index != self._next:  # the call before it was left out, or left nothing that could be kept
            self.add(index - 1, b"")
        with _barrier:
            pass
        fenced: int = _FENCE.unpack_from(self._board, _place(self._number) + _LINE.size)[0]
        return fenced != self._number + 1

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
def _board(path: str) -> mmap.mmap:
    """One view of it for each driver; a worker on the driver's machine works for few."""
    return _open_board(path)


def _open_board(path: str) -> mmap.mmap:
    with Path(path, "board").open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _place(number: int) -> int:
    return number % _LINES * _WIDTH


def _spool(path: str, number: int) -> Path:
    return Path(path, f"outcomes-{number}")
