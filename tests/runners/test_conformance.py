"""The shipped suite over the runners that need nothing but this machine."""

from __future__ import annotations

from penstock_runners.base import TaskRunner
from penstock_runners.processes import ProcessPoolTaskRunner
from penstock_runners.sequential import SequentialTaskRunner
from penstock_runners.testing import RunnerTests
from penstock_runners.threads import ThreadPoolTaskRunner


class TestSequential(RunnerTests):
    def make_runner(self) -> TaskRunner:
        return SequentialTaskRunner()


class TestThreads(RunnerTests):
    patience = 10.0

    def make_runner(self) -> TaskRunner:
        return ThreadPoolTaskRunner(max_workers=2)


class TestProcesses(RunnerTests):
    def make_runner(self) -> TaskRunner:
        return ProcessPoolTaskRunner(max_workers=2)
