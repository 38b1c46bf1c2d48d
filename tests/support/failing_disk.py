"""A disk on which one thing fails, or everything from there on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

FAULTS: dict[str, type[apsw.Error]] = {"full": apsw.FullError, "broken": apsw.IOError}


class FailingDisk(apsw.VFS):
    """A file system that fails when it is told to.

    Attributes:
        count: How many things it was asked to do that change something, so far.
        fails_at: The number of the first that fails; 0 for none.
        keeps_failing: Whether those after it fail too.
        fault: What goes wrong: the disk is ``full``, or ``broken``.
        done: What failed, each as what it was and on which file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.fails_at = 0
        self.keeps_failing = False
        self.fault = "full"
        self.done: list[str] = []
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if not Path(path or "").exists() and self.is_up(f"open {path}"):
            raise apsw.CantOpenError("unable to open database file")
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if self.is_up(f"delete {filename}"):
            raise apsw.IOError("disk I/O error")
        super().xDelete(filename, syncdir)

    def is_up(self, what: str) -> bool:
        """Count something that is about to be done, and say whether it fails."""
        self.count += 1
        fails = self.fails_at and (self.count >= self.fails_at if self.keeps_failing else self.count == self.fails_at)
        if fails:
            self.done.append(what)
        return bool(fails)

    def fail(self, what: str) -> None:
        """Count something, and fail if it is its turn."""
        if self.is_up(what):
            raise FAULTS[self.fault](f"the disk is {self.fault}")


class _File(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path or "temporary").name
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        try:
            self._disk.fail(f"write {self._name}")
        except apsw.Error:
            super().xWrite(bytes(data)[: len(data) // 2], offset)  # a disk that is full takes what it can
            raise
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.fail(f"truncate {self._name}")
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.fail(f"sync {self._name}")
        super().xSync(flags)
