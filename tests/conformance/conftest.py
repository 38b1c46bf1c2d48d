"""Every runner, open for all tests of a module, the two ways to write a flow, and how one is run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from small_tasks import Run
from worlds import INLINE, AsyncioWorld, World

from penstock import Engine, flow
from penstock.runners import (
    DaskTaskRunner,
    ProcessPoolTaskRunner,
    RayTaskRunner,
    SequentialTaskRunner,
    TaskRunner,
    ThreadPoolTaskRunner,
)

RUNNERS: dict[str, Callable[[], TaskRunner]] = {
    "sequential": SequentialTaskRunner,
    "threads": lambda: ThreadPoolTaskRunner(2),
    "processes": lambda: ProcessPoolTaskRunner(2),
    "dask": lambda: DaskTaskRunner(cluster_kwargs={"n_workers": 2}),
    "ray": lambda: RayTaskRunner(init_kwargs={"num_cpus": 2, "object_store_memory": 150 * 1024 * 1024}),
}


@pytest.fixture(scope="module", params=RUNNERS, ids=str)
def runner(request: pytest.FixtureRequest) -> Iterator[TaskRunner]:
    """An open runner with two workers, where it has workers."""
    # A runner that is handed over open is left open; an engine opens it, so that log lines find their way home.
    with Engine(RUNNERS[request.param]()) as engine:
        yield engine.runner


class _WithoutAlarm(AsyncioWorld):
    """For the runner that executes synchronous tasks on the loop: they may block it, that is what it is for."""

    def run(self, call: Callable[[], Any]) -> Any:
        async def caller() -> Any:
            return await call()

        return asyncio.run(caller())


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest, runner: TaskRunner) -> World:
    """A synchronous or an async flow."""
    if request.param == "sync":
        return INLINE
    return (_WithoutAlarm if runner.ordered else AsyncioWorld)("asyncio", asyncio.new_event_loop)


@pytest.fixture
def run(world: World, runner: TaskRunner) -> Run:
    """Make a flow of a body, run it on the runner, and give its value."""

    def run_body(body: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return world.run(lambda: flow(task_runner=runner, **options)(world.function(body))(*args))

    return run_body
