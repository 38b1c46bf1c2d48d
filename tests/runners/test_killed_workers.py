"""Workers that are killed or stopped at random while flows keep them busy, a hundred times for each remote runner.

Every task leaves a mark when it is entered and another one when it ends, so that what really happened is known without
asking the runner. A dead worker may cost the one call that it was at, and nothing else.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock import Engine, State, flow, task
from penstock.runners import DaskTaskRunner, ProcessPoolTaskRunner, RayTaskRunner, TaskRunner
from penstock.testing import wait_until
from penstock_runners.probes import note

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.leaks("Dask and Ray replace workers that tests kill, and keep threads"),
]

LEASE = 1.0
PARTS, STRIKES = 5, 20
"""A hundred in all; each part opens a runner of its own."""


@dataclass(frozen=True)
class Case:
    """A runner, and within how many seconds it promises to find out about a dead worker."""

    make: Callable[[], TaskRunner]
    seconds: float


CASES = {
    "processes": Case(lambda: ProcessPoolTaskRunner(3, lease=LEASE), 2.0),
    "dask": Case(lambda: DaskTaskRunner(cluster_kwargs={"n_workers": 3}, lease=LEASE), 5.0),
    "ray": Case(
        lambda: RayTaskRunner(init_kwargs={"num_cpus": 3, "object_store_memory": 200_000_000}, lease=LEASE), 5.0
    ),
}


@task
def work(file: Path, name: str, seconds: float) -> str:
    """Be at it long enough to be struck."""
    note(file, f"enter:{name}:{os.getpid()}")
    time.sleep(seconds)
    note(file, f"leave:{name}:{os.getpid()}")
    return name


@dataclass
class Marks:
    """What tasks have left in the file."""

    file: Path
    entered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    at: dict[int, str] = field(default_factory=dict)
    """The task that each worker was at last, unless it has left it."""
    _read: int = 0

    def look(self) -> None:
        with self.file.open() as file:
            file.seek(self._read)
            content = file.read()
        self._read += len(content)
        for line in content.split():
            what, name, pid = line.split(":")
            if what == "enter":
                self.entered[name] += 1
                self.at[int(pid)] = name
            else:
                self.left[name] += 1
                del self.at[int(pid)]


@dataclass(frozen=True)
class Strike:
    moment: float
    pid: int
    victim: str | None


class Striker(threading.Thread):
    """Sends a signal to a random worker that is at a task, again and again."""

    def __init__(self, file: Path, number: signal.Signals, count: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.marks = Marks(file)
        self.strikes: list[Strike] = []
        self._number = number
        self._count = count
        self._random = random.Random(seed)

    def run(self) -> None:
        while len(self.strikes) < self._count:
            time.sleep(self._random.uniform(0.0, 0.4))  # nothing is waited for: any moment is to be hit
            self.marks.look()
            if busy := [pid for pid in self.marks.at if _is_running(pid)]:
                self._strike(self._random.choice(busy))

    def _strike(self, pid: int) -> None:
        moment = time.time()
        try:
            os.kill(pid, self._number)
        except ProcessLookupError:
            return
        wait_until(lambda: not _is_running(pid), "the worker to be gone or stopped")
        self.marks.look()  # it may have left its task, and entered another one, a moment before
        self.strikes.append(Strike(moment, pid, self.marks.at.pop(pid, None)))


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD, psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


@dataclass
class Round:
    """One flow run: what became of it and of its tasks."""

    flow: State[Any]
    tasks: dict[str, State[Any]]


def run_round(file: Path, number: int) -> Round:
    """A flow that maps in batches and submits single tasks as well."""
    names = [f"{number}-{index}" for index in range(120)]
    futures: list[Any] = []

    @flow
    def load() -> None:
        futures.extend(work.map([file] * 100, names[:100], [0.02] * 100))
        futures.extend(work.submit(file, name, 0.05) for name in names[100:])

    state = load(return_state=True)
    return Round(state, {name: future.state for name, future in zip(names, futures, strict=True)})


def rounds_under_fire(case: Case, file: Path, striker: Striker) -> list[Round]:
    file.touch()
    rounds: list[Round] = []
    with Engine(case.make()):
        run_round(file, 0)  # workers are there
        striker.start()
        while striker.is_alive():
            rounds.append(run_round(file, len(rounds) + 1))
        rounds.append(run_round(file, len(rounds) + 1))
    striker.marks.look()
    return rounds


def check(rounds: list[Round], striker: Striker, reason: str) -> dict[str, float]:
    """Check that only victims were lost, each once and by that name; gives when their states say so."""
    marks, crashed = striker.marks, dict[str, float]()
    victims = Counter(strike.victim for strike in striker.strikes)
    for round_ in rounds:
        for name, state in round_.tasks.items():
            if state.is_completed():
                assert (state.result(), marks.entered[name], marks.left[name]) == (name, 1, 1)
                continue
            assert state.is_crashed(), state
            assert getattr(state.data, "reason", None) == reason, state
            assert marks.entered[name] <= 1, f"{name} was entered {marks.entered[name]} times; {state}"
            # A worker that was struck between two tasks may have been about to send the value of the first one, or to
            # leave the mark of the second.
            victim = name if marks.entered[name] > marks.left[name] else None
            assert victims[victim] > 0, f"{name} was lost although nobody struck the worker that it was on: {state}"
            victims[victim] -= 1
            crashed[name] = state.timestamp
        lost = any(name in crashed for name in round_.tasks)
        assert round_.flow.is_completed() is not lost, round_.flow
    return crashed


def strike_and_check(case: Case, number: signal.Signals, seed: int, reason: str, file: Path) -> float:
    """Have workers struck while flows keep them busy; gives the seconds after which the last victim was found."""
    striker = Striker(file, number, STRIKES, seed)
    crashed = check(rounds_under_fire(case, file, striker), striker, reason)
    delays = [crashed[strike.victim] - strike.moment for strike in striker.strikes if strike.victim in crashed]
    print(f"{STRIKES} x {number.name}, {len(crashed)} lost, found after {sorted(round(delay, 2) for delay in delays)}")
    assert len(crashed) > STRIKES / 2
    return max(delays)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_killed_worker_costs_the_call_that_it_was_at_and_nothing_else(case: Case, part: int, tmp_path: Path) -> None:
    assert strike_and_check(case, signal.SIGKILL, part, "worker_lost", tmp_path / "marks") < case.seconds


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_stopped_worker_costs_the_call_that_it_was_at_and_nothing_else(case: Case, tmp_path: Path) -> None:
    seconds = strike_and_check(case, signal.SIGSTOP, 7, "frozen", tmp_path / "marks")
    assert seconds < 1.5 * LEASE + case.seconds
