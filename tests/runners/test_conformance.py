"""The shipped suite over the runners that need nothing but this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

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

    @pytest.mark.xfail(strict=True, reason="a running call that is cancelled is never reported: rule 1")
    def test_a_running_call_is_stopped_or_its_outcome_stands(self, runner: TaskRunner, tmp_path: Path) -> None:
        super().test_a_running_call_is_stopped_or_its_outcome_stands(runner, tmp_path)


class TestProcesses(RunnerTests):
    def make_runner(self) -> TaskRunner:
        return ProcessPoolTaskRunner(max_workers=2)
