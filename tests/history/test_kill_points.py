"""kill -9 of the driver at every system call of a flow of three tasks that changes something outside (G1)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kills import Forks, Trial, forking

CALLS = (
    "write,pwrite64,fsync,fdatasync,openat,rename,renameat,renameat2,ftruncate,unlink,unlinkat,mkdir,mkdirat,fcntl,"
    "flock"
)
VALUE = 10


def _lacking() -> str | None:
    """What is missing here that a process can be killed at a system call, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    return f"no process may be traced here: {tried.stderr.strip()}" if tried.returncode else None


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    if lacking := _lacking():
        pytest.skip(lacking)
    with forking() as forks:
        yield forks


def traced(folder: Path, forks: Forks, *options: str, **order: Any) -> tuple[Trial, bool]:
    """Let a driver run its flow under strace, to the end or to where that kills it; gives whether it did."""
    gate = folder.with_suffix(".gate")
    os.mkfifo(gate)
    opener = os.open(gate, os.O_RDWR)  # which waits for nobody: a driver that is killed early never opens its end
    trial = Trial(folder, forks, runner="sequential", flow="three_tasks", gate=str(gate), **order)
    driver = trial.begin()
    command = ["strace", "-f", "-p", str(driver), "-o", str(folder.with_suffix(".calls")), "-e", f"trace={CALLS}"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        os.write(opener, b".")
        strace.communicate(timeout=60)
    os.close(opener)
    killed = forks.wait() != 0
    trial.look()
    return trial, killed


def all_points(folder: Path, forks: Forks) -> list[tuple[str, int]]:
    """Each system call of an undisturbed flow: its name, and which call of that name in its thread it is."""
    trial, _ = traced(folder, forks)
    trial.check(VALUE)
    counts: Counter[tuple[str, str]] = Counter()
    for line in folder.with_suffix(".calls").read_text().splitlines():
        if begun := re.match(r"(\d+) +(\w+)\(", line):
            counts[begun[1], begun[2]] += 1
    most: dict[str, int] = {}
    for (_, name), count in counts.items():
        most[name] = max(count, most.get(name, 0))
    return [(name, number) for name in sorted(most) for number in range(1, most[name] + 1)]


def kill_at(points: list[tuple[str, int]], folder: Path, forks: Forks, **order: Any) -> None:
    kills = 0
    for name, number in points:
        place = folder / f"{name}-{number}"
        trial, killed = traced(place, forks, "-e", f"inject={name}:signal=SIGKILL:when={number}", **order)
        kills += killed
        trial.run()
        trial.check(VALUE)
    # How the writer's thread groups what it writes is a matter of time, so not every run has all the calls.
    assert kills > 0.8 * len(points)


def test_some_points(forks: Forks, tmp_path: Path) -> None:
    points = all_points(tmp_path / "whole", forks)
    assert len(points) > 100
    kill_at(points[:: len(points) // 20], tmp_path, forks)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_every_point(forks: Forks, tmp_path: Path) -> None:
    kill_at(all_points(tmp_path / "whole", forks), tmp_path, forks)


def test_the_wrong_order_is_caught(forks: Forks, tmp_path: Path) -> None:
    """A run that is recorded as COMPLETED before its value is stored is executed again, if it is killed in between."""
    points = [("fsync", number) for number in range(1, 8)]
    with pytest.raises(AssertionError, match="executed again"):
        kill_at(points, tmp_path, forks, mutant=True)
