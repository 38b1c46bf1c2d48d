"""Run a program with everything that it starts, look at its memory, and leave nothing of it behind."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import measure
import psutil

# The variable by which everything is known that the program started, also what outlives it or left its group.
MARK = "PENSTOCK_BENCH_RUN"
INTERVAL = 0.05
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        began: When it was started, seconds since the epoch.
        status: Its exit status; None if it was stopped because its time was over.
        last_words: The last line that it printed.
        peak_mb: The most memory that it and all its processes held together, if that was looked at.
    """

    began: float
    status: int | None
    last_words: str
    peak_mb: float | None


def run(command: Sequence[str], folder: Path, timeout: float, *, memory: bool = False) -> Ended:
    """Run a Python program in a folder, for at most so many seconds.

    Args:
        command: The interpreter, whose neighbours are found first, as in an environment that was activated; the
            program, whose neighbours can be imported, also by its workers; and the program's arguments.
        folder: Its working directory; what it prints is kept there.
        timeout: After how many seconds it is stopped.
        memory: Whether to look at its memory, which slows it down.
    """
    mark, printed = uuid.uuid4().hex, folder / "printed"
    peak, began = 0.0, time.time()
    with printed.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**measure.environment(), **_activated(command), MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None and time.time() - began < timeout:
                if memory:
                    peak = max(peak, held(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(INTERVAL if memory else timeout)
            status = process.poll()
        finally:
            stop_all(mark)
            process.wait()
    words = [line for line in printed.read_text(errors="replace").splitlines() if line.strip(" ^~")]
    return Ended(began, status, words[-1].strip() if words else "", peak if memory else None)


def _activated(command: Sequence[str]) -> dict[str, str]:
    interpreter, program = Path(command[0]), Path(command[1])
    return {"PATH": f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(program.parent)}


def held(pid: int) -> float:
    """Megabytes that a process and its descendants hold; what several share is counted once."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total / MEGABYTE


def stop_all(mark: str) -> None:
    """End every process that carries a mark, until there is none."""
    while found := [process for process in psutil.process_iter() if _carries(process, mark)]:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=10)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
