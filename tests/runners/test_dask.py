"""The Dask runner: the shipped suite on a real cluster, and what only Dask does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.ports import Call, Outcome, Reference
from penstock_runners.base import TaskRunner
from penstock_runners.dask import DaskTaskRunner
from penstock_runners.testing import RunnerTests

pytestmark = pytest.mark.leaks("the shared cluster outlives a test, and Dask replaces the workers that tests kill")


@pytest.fixture(scope="module")
def shared() -> Iterator[TaskRunner]:
    with DaskTaskRunner(cluster_kwargs={"n_workers": 2}) as runner:
        yield runner


class TestDask(RunnerTests):
    def make_runner(self) -> TaskRunner:
        return DaskTaskRunner(cluster_kwargs={"n_workers": 2})

    @pytest.fixture
    def runner(self, shared: TaskRunner) -> TaskRunner:
        return shared

    def run(self, runner: TaskRunner, calls: list[Call]) -> list[Outcome]:
        outcomes = super().run(runner, calls)
        for outcome in outcomes:
            if isinstance(outcome.value, Reference):
                outcome.value = outcome.value.load()
        return outcomes
