"""Who holds a claim, told so precisely that a survivor can see whether the holder is dead.

A process id alone says nothing: ids are used again, and two containers that share a volume count their processes
separately. So an owner is named by its host (name, boot and process namespace), its id, and when it was started.
"""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import orjson

__all__ = ("Owner", "Record", "number_of", "owner_is_dead", "this_owner")

_GONE = ("Z", "X")
"""States of a process that will never run again: waiting to be reaped, and dead."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process.

    Attributes:
        host: The machine, its current boot, and the namespace in which `pid` means something.
        pid: The process id.
        started: When the process was started, in the kernel's ticks since boot; empty where the system does not tell.
    """

    host: str
    pid: int
    started: str

    @property
    def is_dead(self) -> bool:
        """Whether it is certain that the process has ended; never true for a process of another host."""
        if self.host != _host() or os.name != "posix":
            return False
        if self.started:
            return _started(self.pid) != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # alive, and somebody else's
        return False


def this_owner() -> Owner:
    """The process that asks; forked children are told apart from their parents."""
    return _owner(os.getpid())


@dataclass(frozen=True, slots=True)
class Record:
    """What a claim's record says."""

    number: int
    token: str
    owner: Owner
    lease: float
    beat: int = 0

    @property
    def name(self) -> str:
        """What the record is kept under; no other record ever has this name."""
        return f"{self.number}-{self.token}"

    def encode(self) -> bytes:
        """The bytes to write."""
        return orjson.dumps(
            [self.number, self.token, self.owner.host, self.owner.pid, self.owner.started, self.lease, self.beat]
        )

    @classmethod
    def decode(cls, data: bytes) -> Record | None:
        """The record, or None if it is only just being written."""
        try:
            number, token, host, pid, started, lease, beat = orjson.loads(data)
        except ValueError:
            return None
        return cls(number, token, Owner(host, pid, started), lease, beat)


def number_of(name: str) -> int:
    """The number of the record that is kept under a name."""
    return int(name.partition("-")[0])


def owner_is_dead(content: bytes) -> bool:
    """Whether a record's owner has certainly ended. The owner of one that is not yet whole is not known."""
    record = Record.decode(content)
    return record is not None and record.owner.is_dead


@functools.lru_cache(maxsize=1)
def _owner(pid: int) -> Owner:
    return Owner(_host(), pid, _started(pid))


@functools.lru_cache(maxsize=1)
def _host() -> str:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [platform.node()]
    if boot.exists() and namespace.is_symlink():
        parts += [boot.read_text().strip(), str(namespace.readlink())]
    return " ".join(parts)


def _started(pid: int) -> str:
    """The process's start time, or nothing if it has ended or the system has no ``/proc``."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = facts.rpartition(")")[2].split()  # the name before it may contain anything
    return "" if fields[0] in _GONE else fields[19]
