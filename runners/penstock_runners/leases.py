"""Workers that a signal has stopped, and for how long.

A worker that says nothing may be stopped for good (SIGSTOP, a freezer, a forgotten debugger), or it may hold the
interpreter's lock, wait, or share its processor with too many others. Only the kernel can tell these apart, so it is
the kernel that is asked, on the worker's own machine; silence alone never costs a worker its life.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from penstock.errors import ConfigurationError

__all__ = ("Lease", "check_lease", "is_stopped")

_LOOKS = 4


class Lease:
    """How long worker processes may be stopped.

    It counts looks, not seconds: whoever looks may have been stopped together with the workers, by Ctrl-Z for example.

    Args:
        seconds: How long that is.

    Attributes:
        pause: Seconds between two looks.
    """

    def __init__(self, seconds: float) -> None:
        self.pause = seconds / _LOOKS
        self._found: dict[int, int] = {}

    def expired(self, workers: Iterable[int]) -> list[int]:
        """Look at the workers; gives those that were stopped at every look for as long as the lease."""
        self._found = {pid: self._found.get(pid, 0) + 1 for pid in workers if is_stopped(pid)}
        return [pid for pid, looks in self._found.items() if looks > _LOOKS]


def check_lease(seconds: float, runner: str) -> None:
    """Refuse a lease that is none.

    Raises:
        ConfigurationError: If it is not positive.
    """
    if seconds <= 0:
        raise ConfigurationError(f"{runner}(lease={seconds}): it must be positive")


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine is stopped by a signal; False where there is no ``/proc`` to say so."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False
