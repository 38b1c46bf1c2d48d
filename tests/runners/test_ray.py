"""The Ray runner: the shipped suite on a real cluster, and what only Ray does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.ports import Call, Outcome, Reference
from penstock_runners.base import TaskRunner
from penstock_runners.ray import RayTaskRunner
from penstock_runners.testing import RunnerTests

pytestmark = pytest.mark.leaks("the shared cluster outlives a test, and Ray replaces the workers that tests kill")

SMALL = {"num_cpus": 2, "object_store_memory": 150 * 1024 * 1024}


@pytest.fixture(scope="module")
def shared() -> Iterator[TaskRunner]:
    with RayTaskRunner(init_kwargs=SMALL) as runner:
        yield runner


class TestRay(RunnerTests):
    def make_runner(self) -> TaskRunner:
        return RayTaskRunner(init_kwargs=SMALL)

    @pytest.fixture
    def runner(self, shared: TaskRunner) -> TaskRunner:
        return shared

    def run(self, runner: TaskRunner, calls: list[Call]) -> list[Outcome]:
        outcomes = super().run(runner, calls)
        for outcome in outcomes:
            if isinstance(outcome.value, Reference):
                outcome.value = outcome.value.load()
        return outcomes
