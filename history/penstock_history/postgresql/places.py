"""Which processes of this machine are gone: those need not be waited for.

A process id means something only where it was given, in one namespace of one boot of one machine. A process that is
looked for in the same place, and is not there, has ended. One that is there may be another one with the same number.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ("here", "is_gone")


def here() -> str | None:
    """Where this process's number means something; None if that cannot be told."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # only Linux tells
        return None


def is_gone(pid: int) -> bool:
    """Whether no process here has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's
    return False
