"""kill -9 of a writer, two hundred times, anywhere: readers find whole results or none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import result_writer

from penstock.results import ResultStore

KILLS = 200


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, result_writer.__file__, str(tmp_path / "results")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_no_half_result_is_ever_visible(forks: subprocess.Popen[str], tmp_path: Path) -> None:
    chance = random.Random(7)
    store = ResultStore(tmp_path / "results")
    checked = 0
    for seed in range(KILLS):
        _kill_a_writer(forks, seed, chance.uniform(0, 0.02))
        for key in store.keys(f"new/{seed}/") + store.keys("fixed/"):
            name, number, size, data = store.read(key)
            assert (name, data) == (key, bytes([number % 251]) * size)
            checked += 1
    assert checked > KILLS
    _the_dead_leave_nothing_for_long(store, tmp_path / "results")


def _kill_a_writer(forks: subprocess.Popen[str], seed: int, delay: float) -> None:
    assert forks.stdin is not None
    assert forks.stdout is not None
    forks.stdin.write(f"{seed}\n")
    forks.stdin.flush()
    writer = int(forks.stdout.readline())
    time.sleep(delay)
    os.kill(writer, signal.SIGKILL)
    assert forks.stdout.readline() == "reaped\n"


def _the_dead_leave_nothing_for_long(store: ResultStore, root: Path) -> None:
    """Some kills hit between the first byte and the rename, so there must be something to sweep."""
    left = {str(path.relative_to(root)) for path in root.rglob(".*.tmp")}
    assert left
    swept = store.gc(orphan_age=timedelta(seconds=-60))
    assert set(swept.orphans) == left
    assert not list(root.rglob(".*.tmp"))
