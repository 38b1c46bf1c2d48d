"""What the end of a worker process says about the call that it was running."""

from __future__ import annotations

import signal
from pathlib import Path

from penstock.errors import CrashedRun

__all__ = ("crash", "oom_kills")


def crash(task: str, worker: str, returncode: int, oom: bool) -> CrashedRun:
    """Describe a death that nobody here ordered.

    Args:
        task: The name of the task whose call was running.
        worker: Who ran it, for people.
        returncode: What `subprocess.Popen` says: minus the signal's number, or the exit code.
        oom: Whether the kernel ran out of memory and killed something at about that time.
    """
    if returncode >= 0:
        text = f"exited with code {returncode} (os._exit or a library that ends the process)"
        return CrashedRun(f"task {task!r} crashed: its worker ({worker}) {text}", "exit")
    name = _signal_name(-returncode)
    if -returncode != signal.SIGKILL:
        hint = " (a fault in native code)" if -returncode in _FAULTS else ""
        return CrashedRun(f"task {task!r} crashed: its worker ({worker}) was ended by {name}{hint}", "signal")
    if oom:
        text = "was killed by the kernel, which had run out of memory: let each task hold less, or use fewer workers"
        return CrashedRun(f"task {task!r} crashed: its worker ({worker}) {text}", "out_of_memory")
    text = f"was killed from outside ({name})"
    return CrashedRun(f"task {task!r} crashed: its worker ({worker}) {text}", "worker_lost")


_FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT})


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def oom_kills() -> int:
    """How often the kernel has killed a process for want of memory; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
