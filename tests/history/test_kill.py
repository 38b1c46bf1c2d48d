"""kill -9 of the driver, anywhere: nothing runs again that had completed, and the value is the same (G1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import Forks, Trial, delays, forking


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with forking() as forks:
        yield forks


def kill_and_resume(forks: Forks, folder: Path, runner: str, kills: int, seed: int, **order: object) -> int:
    """Kill drivers until so many have died, each flow after one to three of them resumed to its end; checks all.

    Returns:
        How many flows there were.
    """
    first = Trial(folder / "whole", forks, runner=runner, **order)
    longest = first.run()
    value = first.value
    assert value is not None
    first.check(value)
    moments, left = delays(seed, longest), kills
    for number in itertools.count():
        if left <= 0:
            return number
        trial = Trial(folder / str(number), forks, runner=runner, **order)
        for _ in range(min(left, 1 + number % 3)):
            if not trial.kill_after(next(moments)):
                break
            left -= 1
        else:
            trial.run()
        trial.check(value)
    raise AssertionError("there is always another number")


@pytest.mark.parametrize("runner", ["sequential", "threads", "asyncio"])
def test_kill_in_process(forks: Forks, tmp_path: Path, runner: str) -> None:
    kill_and_resume(forks, tmp_path, runner, kills=20, seed=1, pause=0.002)
