"""Faults with names, for tests of what happens when the infrastructure fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from penstock.errors import CrashedRun, SerializationError
from penstock.ports import Call, Clock, Outcome, Report, Runner

__all__ = ("FaultyRunner",)

_Fault = Callable[["FaultyRunner", Call, Report], Report | None]
"""What happens to a call: the report to run it with, or None if the fault has already reported it."""


@dataclass(slots=True)
class _Plan:
    """Which faults befall which calls, counted over all runners that share the plan."""

    numbers: Iterator[int] = field(default_factory=itertools.count)
    faults: list[tuple[range | None, _Fault]] = field(default_factory=list[tuple[range | None, _Fault]])

    def faults_of_next(self) -> list[_Fault]:
        number = next(self.numbers)
        return [fault for calls, fault in self.faults if calls is None or number in calls]


class FaultyRunner:
    """A runner that does what another one does, except for the faults that it was told to have.

    Use it in the other's place: ``@flow(task_runner=FaultyRunner(ThreadPoolTaskRunner(4)).kill_worker(after=3))``.
    Calls are counted from 0 in the order of their submission, retries included.

    Args:
        runner: Who does the work.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._plan = _Plan()
        self._clock: Clock | None = None

    def kill_worker(self, after: int = 0, times: int = 1, *, entered: bool = True) -> FaultyRunner:
        """Lose attempts, as if their workers had been killed.

        Args:
            after: How many calls go well before.
            times: How many calls are lost.
            entered: Whether the function of a lost call runs before its worker dies.
        """
        return self._add(range(after, after + times), partial(_lose, entered))

    def fail_pickle(self, after: int = 0, times: int = 1) -> FaultyRunner:
        """Refuse calls, as if their arguments could not be pickled; see `kill_worker` for the arguments."""
        return self._add(range(after, after + times), _refuse)

    def slow(self, seconds: float) -> FaultyRunner:
        """Bring every outcome home that many seconds late, on the engine's clock."""
        return self._add(None, partial(_delay, seconds))

    def duplicate_reports(self) -> FaultyRunner:
        """Bring every outcome home twice, which the engine must not notice."""
        return self._add(None, _repeat)

    def _add(self, calls: range | None, fault: _Fault) -> FaultyRunner:
        self._plan.faults.append((calls, fault))
        return self

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Hand the calls on, those with a fault one by one."""
        for call in calls:
            way_home: Report | None = report
            for fault in self._plan.faults_of_next():
                way_home = fault(self, call, way_home) if way_home is not None else None
            if way_home is not None:
                self._runner.submit((call,), way_home)

    def open(self, clock: Clock) -> None:
        """Open the other runner."""
        self._clock = clock
        self._runner.open(clock)

    def duplicate(self) -> FaultyRunner:
        """An unopened runner that goes on with the same plan of faults."""
        copy = FaultyRunner(self._runner.duplicate())
        copy._plan = self._plan
        return copy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    @property
    def clock(self) -> Clock:
        """The clock that the runner was opened with."""
        assert self._clock is not None, "calls come after open"
        return self._clock


def _lose(entered: bool, runner: FaultyRunner, call: Call, report: Report) -> Report | None:
    crash = CrashedRun(f"The worker of {call.run} was killed by a test.", "worker_lost", entered)
    if not entered:
        report(call, Outcome(crash=crash))
        return None
    return lambda lost, _: report(lost, Outcome(crash=crash))


def _refuse(runner: FaultyRunner, call: Call, report: Report) -> None:
    report(call, Outcome(error=SerializationError(f"{call.run}: a test says that its arguments cannot be pickled.")))


def _delay(seconds: float, runner: FaultyRunner, call: Call, report: Report) -> Report:
    def later(done: Call, outcome: Outcome) -> None:
        runner.clock.call_later(seconds, partial(report, done, outcome))

    return later


def _repeat(runner: FaultyRunner, call: Call, report: Report) -> Report:
    def twice(done: Call, outcome: Outcome) -> None:
        report(done, outcome)
        report(done, outcome)

    return twice
