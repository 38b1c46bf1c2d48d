"""What workers on this machine did that did not live to tell.

Before a worker enters a call it writes the call's place in its batch into a file, and before it enters the next one
it adds the outcome to another. What was written outlives a process that is killed. So the driver knows what a lost
worker had done, which stands, and what it never began, which can be sent again without repeating anything: a worker
that dies takes along the one call that it was at.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from functools import lru_cache
from pathlib import Path

__all__ = ("Journal", "Spool", "note_entry")

_NUMBER = struct.Struct("<q")


class Journal:
    """The driver's side.

    Attributes:
        path: The folder, where workers find it too.
    """

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="penstock-journal-")
        self._entries = os.open(_entries(self.path), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def entered(self, number: int) -> int:
        """How many calls of a submission were entered, its first ones."""
        found = os.pread(self._entries, _NUMBER.size, number * _NUMBER.size)
        return int(_NUMBER.unpack(found)[0]) if len(found) == _NUMBER.size else 0

    def outcomes(self, number: int) -> list[bytes]:
        """What a lost worker had done of a submission."""
        file = _spool(self.path, number)
        content, found, start = file.read_bytes() if file.exists() else b"", list[bytes](), 0
        while start + _NUMBER.size <= len(content):
            start += _NUMBER.size
            end = start + _NUMBER.unpack_from(content, start - _NUMBER.size)[0]
            if end <= len(content):  # else the worker was killed while it wrote
                found.append(content[start:end])
            start = end
        return found

    def forget(self, number: int) -> None:
        """Drop what was written of a submission that has ended."""
        _spool(self.path, number).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        os.close(self._entries)
        shutil.rmtree(self.path)


class Spool:
    """The worker's side: the outcomes of one batch.

    Args:
        path: The journal's folder.
        number: The batch's submission.
    """

    def __init__(self, path: str, number: int) -> None:
        self._descriptor = os.open(_spool(path, number), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, outcome: bytes) -> None:
        """Write an outcome down."""
        os.write(self._descriptor, _NUMBER.pack(len(outcome)) + outcome)

    def close(self) -> None:
        """Close the file; the driver removes it when it has the outcomes."""
        os.close(self._descriptor)


def note_entry(path: str, number: int, index: int) -> None:
    """The worker's side: the call at ``index`` of the submission is about to be entered."""
    os.pwrite(_descriptor(path), _NUMBER.pack(index + 1), number * _NUMBER.size)


@lru_cache(maxsize=64)
def _descriptor(path: str) -> int:
    """One open file for each driver; a worker on the driver's machine works for few."""
    return os.open(_entries(path), os.O_WRONLY | os.O_CLOEXEC)


def _entries(path: str) -> Path:
    return Path(path, "entries")


def _spool(path: str, number: int) -> Path:
    return Path(path, f"outcomes-{number}")
