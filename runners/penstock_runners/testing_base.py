"""What the suite for runners stands on: a runner, calls to give to it, and the outcomes that come of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.ports import Call, Outcome
from penstock_runners.base import TaskRunner
from penstock_runners.probes import Reports, make_calls

__all__ = ("RunnerSuite",)


class RunnerSuite:
    """A suite without tests.

    Attributes:
        patience: Seconds after which something that has not happened counts as never happening.
    """

    patience = 60.0

    def make_runner(self) -> TaskRunner:
        """Make an unopened runner, with room for two calls at the same time if it can have that."""
        raise NotImplementedError(f"{type(self).__name__}.make_runner")

    @pytest.fixture
    def runner(self) -> Iterator[TaskRunner]:
        """An open runner; override it to share one that is slow to open."""
        with self.make_runner() as runner:
            yield runner

    def reports(self) -> Reports:
        """A collector with this suite's patience."""
        return Reports(self.patience)

    def run(self, runner: TaskRunner, calls: list[Call]) -> list[Outcome]:
        """Submit the calls as one batch and wait for their outcomes."""
        reports = self.reports()
        runner.submit(calls, reports)
        return reports.of(calls)

    def one(self, runner: TaskRunner, function: Any, *args: Any, **options: Any) -> Outcome:
        """Run a single call."""
        return self.run(runner, make_calls(function, [args], **options))[0]

    def needs_remote(self, runner: TaskRunner) -> None:
        """Skip the test if calls do not leave this process."""
        if not runner.remote:
            pytest.skip("calls do not leave this process")

    def needs_room(self, runner: TaskRunner) -> None:
        """Skip the test if the runner does everything while it is submitted."""
        if runner.ordered:
            pytest.skip("calls are executed while they are submitted")
