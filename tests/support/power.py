"""A disk whose power can be cut: what was not synced is lost, torn, or written in another order.

While a history is written, each thing that is done to its files goes into a list. Afterwards the power is cut anywhere
in it: of what was written to a file since it was last synced, each sector of each write has come to the disk or not, by
chance. Reads are of the real files, so that the writing itself goes on undisturbed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512


@dataclass(frozen=True)
class Step:
    """Something that was done to a file, or said about the work (``acknowledged``)."""

    kind: str
    file: str = ""
    offset: int = 0
    data: bytes = b""


class Recorder(apsw.VFS):
    """A file system that notes what is done to files.

    Attributes:
        steps: What was done, in order.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: list[Step] = []
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.steps.append(Step("delete for good" if syncdir else "delete", Path(filename).name))

    def say(self, what: str) -> None:
        """Note something that is known outside from here on."""
        self.steps.append(Step(what))


class _File(apsw.VFSFile):
    def __init__(self, recorder: Recorder, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path or "temporary").name
        self._steps = recorder.steps
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._steps.append(Step("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._steps.append(Step("truncate", self._name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._steps.append(Step("sync", self._name))


@dataclass
class Disk:
    """What is on the platter, and what is on its way there.

    Args:
        chance: What decides.
    """

    chance: random.Random
    files: dict[str, bytearray] = field(default_factory=dict)
    waiting: dict[str, list[Step]] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        """Do a step."""
        if step.kind == "delete for good":
            self.waiting.pop(step.file, None)
            self.files.pop(step.file, None)
        elif step.kind == "sync":
            for waiting in self.waiting.pop(step.file, []):
                _apply(self.files, waiting)
            self.files.setdefault(step.file, bytearray())
        elif step.file:
            self.waiting.setdefault(step.file, []).append(step)

    def after_the_cut(self) -> dict[str, bytearray]:
        """The files that are found when the power is back."""
        found = {name: bytearray(content) for name, content in self.files.items()}
        likely = self.chance.choice((0.05, 0.5, 0.95))
        for steps in self.waiting.values():
            for step in steps:
                if step.kind == "delete" and self.chance.random() > likely:
                    break  # the old file is still there, and what came after went into a new one
                for part in _sectors(step) if step.kind == "write" else (step,):
                    if self.chance.random() < likely:
                        _apply(found, part)
        return found


def _sectors(step: Step) -> Iterator[Step]:
    """A write as its sectors, each of which the disk may write alone."""
    at = 0
    while at < len(step.data):
        length = SECTOR - (step.offset + at) % SECTOR
        yield Step("write", step.file, step.offset + at, step.data[at : at + length])
        at += length


def _apply(files: dict[str, bytearray], step: Step) -> None:
    if step.kind == "delete":
        files.pop(step.file, None)
        return
    content = files.setdefault(step.file, bytearray())
    if step.kind == "truncate":
        del content[step.offset :]
    missing = step.offset - len(content)
    if missing > 0:
        content.extend(bytes(missing))
    content[step.offset : step.offset + len(step.data)] = step.data


def write_files(folder: Path, files: dict[str, bytearray]) -> None:
    """Put files in an empty folder."""
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)


def forget(folder: Path) -> None:
    """Remove a folder of files."""
    for file in folder.iterdir():
        with suppress(FileNotFoundError):
            file.unlink()
    folder.rmdir()
