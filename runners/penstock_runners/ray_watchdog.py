"""Ends the Ray that a runner started, when the runner's process is gone, however it went.

Ray's own processes follow their driver, but two of them, its agents, are children of another and live on for half a
minute or more. So this file also runs as a program, a small child of the driver with a pipe between them: it is told
the processes and the folder to remove, and acts when the pipe is closed, which a process that is killed does too.

It is Linux's /proc that says which processes those are; elsewhere Ray's own clean-up has to do.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time  # noqa: TID251 (a process of its own, which has no other clock)
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ("Watchdog", "descendants")

# Seconds that Ray's processes get to end by themselves once their driver has left.
_PATIENCE = 2.0


class Watchdog:
    """The driver's side: starts the program.

    Args:
        folder: What to remove when the processes are gone.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        command = [sys.executable, "-I", "-S", __file__]
        # A session of its own: Ctrl-C in the terminal is for the driver, and the watchdog outlives it by a moment.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        self._tell([])

    def watch(self, processes: Iterable[tuple[int, str]]) -> None:
        """Say which processes are to be gone, each with what tells it from a later one of the same number."""
        self._tell(list(processes))

    def _tell(self, processes: list[tuple[int, str]]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"folder": self._folder, "processes": processes}).encode() + b"\n")
        self._process.stdin.flush()

    def release(self) -> None:
        """Let it do its work, and wait until it is done."""
        self._process.communicate()


def descendants(pid: int) -> list[tuple[int, str]]:
    """The children of a process, and theirs, each with the moment of its start."""
    parents = {process: parent for process in _processes() if (parent := _stat(process, 1)) is not None}
    found, grown = {str(pid)}, True
    while grown:
        children = {process for process, parent in parents.items() if parent in found}
        grown = not children <= found
        found |= children
    return [(int(process), start) for process in found - {str(pid)} if (start := _stat(process, 19)) is not None]


def _processes() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()] if Path("/proc").is_dir() else []


def _stat(process: str, field: int) -> str | None:
    """A field of a process's state, counted from the one after its name; None if the process is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[field]
    except OSError:
        return None


def _alive(processes: list[tuple[int, str]]) -> list[int]:
    return [pid for pid, start in processes if _stat(str(pid), 19) == start and _stat(str(pid), 0) != "Z"]


def _main() -> None:
    orders: dict[str, Any] = {"folder": "", "processes": []}
    driver, pending = os.getppid(), b""
    # The pipe's end may have been inherited by a child that the driver forked, so its parent is looked at too.
    while os.getppid() == driver:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        if not (content := os.read(0, 65536)):
            break
        *lines, pending = (pending + content).split(b"\n")
        for line in lines:
            orders = json.loads(line)
    _clean_up(orders["folder"], orders["processes"])


def _clean_up(folder: str, processes: list[tuple[int, str]]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while _alive(processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in _alive(processes):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it went by itself at this very moment
    while _alive(processes):
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main()
