"""What flows may rely on while tasks are under way, whatever the runner: time, context, dead workers, batches, traces.

The bodies of flows are as in test_flows_on_runners.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from small_tasks import Run, add, total, touch
from spans import Traces, here
from worlds import World

from penstock import Engine, get_run_logger, quote, runtime, tags, task, unmapped
from penstock.cache_policies import INPUTS
from penstock.errors import CancelledRun, CrashedRun, TimedOut
from penstock.ports import Call, Report
from penstock.runners import TaskRunner
from penstock.testing import wait_until
from penstock_runners.probes import entries, note

pytestmark = pytest.mark.leaks("the shared clusters outlive a test, and replace the workers that tests kill")

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def aside(world: World, function: Callable[[], object]) -> None:
    """Call something that blocks, in a flow's body."""
    if world.is_async:
        await asyncio.to_thread(function)
    else:
        function()


class TestTime:
    def test_a_timeout_ends_the_run(self, world: World, run: Run, runner: TaskRunner, tmp_path: Path) -> None:
        release, patience = tmp_path / "release", 1.0 if runner.ordered else 60.0

        @task(timeout_seconds=0.2)
        def endless(release: Path) -> None:
            # Where nothing can stop it, it must not stand in the way of the next test.
            wait_until(release.exists, "the release", patience)

        async def body() -> Any:
            future = endless.submit(release)
            with contextlib.suppress(TimedOut):
                await world.get(future)
            return quote([future.state])

        (state,) = run(body)
        note(release, "now")
        assert (state.type.value, state.name) == ("FAILED", "TimedOut")

    def test_items_flow_on_to_the_next_stage(self, world: World, run: Run, runner: TaskRunner, tmp_path: Path) -> None:
        if runner.capacity < 2:
            pytest.skip("one worker takes one thing after the other")
        seen = tmp_path / "second-stage"

        @task(batch_size=1)
        def first(number: int, seen: Path) -> int:
            if number == 1:
                wait_until(seen.exists, "the first item of the second stage")
            return number

        @task(batch_size=1)
        def second(number: int, seen: Path) -> int:
            note(seen, number)
            return number

        async def body() -> int:
            return await world.get(total.submit(second.map(first.map([0, 1], unmapped(seen)), unmapped(seen))))

        assert run(body) == 1
        assert entries(seen) == ["0", "1"]

    def test_a_cancelled_run_never_starts(self, world: World, run: Run, runner: TaskRunner, tmp_path: Path) -> None:
        if runner.ordered:
            pytest.skip("a submission has ended when it returns")
        running, release, late = tmp_path / "running", tmp_path / "release", tmp_path / "late"

        @task(batch_size=1)
        def hold(running: Path, release: Path) -> None:
            note(running, "entered")
            wait_until(release.exists, "the release")

        async def body() -> Any:
            holding = [hold.submit(running, release) for _ in range(runner.capacity)]
            busy = lambda: len(entries(running)) == runner.capacity  # noqa: E731
            await aside(world, lambda: wait_until(busy, "all workers to be busy"))
            waiting = touch.map([late] * 5, range(5))
            for future in waiting:
                future.cancel()
            await aside(world, lambda: note(release, "now"))
            for future in holding:
                await world.get(future)
            for future in waiting:
                with contextlib.suppress(CancelledRun):
                    await world.get(future)
            return quote([future.state.type.value for future in waiting])

        assert run(body) == ["CANCELLED"] * 5
        assert entries(late) == []


class TestContext:
    def test_logs_and_prints_come_home(self, world: World, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        @task(log_prints=True, task_run_name="speaker-{number}")
        def speak(number: int) -> None:
            get_run_logger().warning("logged %d", number)
            print("printed", number)

        async def body() -> None:
            for future in speak.map([1, 2, 3]):
                await world.get(future)

        with caplog.at_level(logging.INFO, "penstock"):
            run(body)
        for number in (1, 2, 3):
            assert f"Task run 'speaker-{number}' - logged {number}" in caplog.messages
            mine = [record for record in caplog.records if f"printed {number}" in record.getMessage()]
            assert [record.run_name for record in mine] == [f"speaker-{number}"]

    def test_facts_reach_the_worker(self, world: World, run: Run) -> None:
        @task(tags=["mine"], task_run_name="reporter")
        def report(value: int) -> dict[str, Any]:
            return {
                "flow_name": runtime.flow_run.flow_name,
                "flow_run_id": runtime.flow_run.id,
                "flow_parameters": dict(runtime.flow_run.parameters),
                "task_run": runtime.task_run.name,
                "parameters": dict(runtime.task_run.parameters),
                "tags": sorted(runtime.task_run.tags),
                "count": runtime.task_run.run_count,
            }

        async def body(day: str) -> tuple[str | None, dict[str, Any]]:
            with tags("everybodys"):
                future = report.submit(7)
            return runtime.flow_run.id, await world.get(future)

        flow_run_id, facts = run(body, "monday", name="teller")
        assert facts == {
            "flow_name": "teller",
            "flow_run_id": flow_run_id,
            "flow_parameters": {"day": "monday"},
            "task_run": "reporter",
            "parameters": {"value": 7},
            "tags": ["everybodys", "mine"],
            "count": 1,
        }

    def test_context_variables_reach_the_worker(self, world: World, run: Run) -> None:
        @task
        def read() -> str:
            value = variable.get()
            variable.set("changed on the worker")
            return value

        async def body() -> list[str]:
            variable.set("set by the flow")
            return [await world.get(read.submit()), await world.get(read.submit())]

        assert run(body) == ["set by the flow"] * 2


class TestDeaths:
    @pytest.fixture(autouse=True)
    def _only_remote(self, runner: TaskRunner) -> None:
        if not runner.remote:
            pytest.skip("its worker is this process")

    def test_a_killed_worker_is_a_named_crash(self, world: World, run: Run, tmp_path: Path) -> None:
        @task
        def die(file: Path) -> None:
            note(file, os.getpid())
            os.kill(os.getpid(), signal.SIGKILL)

        async def body() -> Any:
            future, other = die.submit(tmp_path / "pids"), add.submit(1, 1)
            with contextlib.suppress(CrashedRun):
                await world.get(future)
            return quote((future.state, await world.get(other)))

        state, value = run(body)
        assert (state.type.value, state.error.reason, value) == ("CRASHED", "worker_lost", 2)
        assert len(entries(tmp_path / "pids")) == 1

    def test_crash_retries_run_it_again(self, world: World, run: Run, tmp_path: Path) -> None:
        @task(crash_retries=1)
        def die_once(file: Path) -> str:
            note(file, os.getpid())
            if len(entries(file)) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return "survived"

        async def body() -> str:
            return await world.get(die_once.submit(tmp_path / "pids"))

        assert run(body) == "survived"
        assert len(set(entries(tmp_path / "pids"))) == 2


class TestBatches:
    @pytest.fixture
    def submissions(self, runner: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many calls each submission to the runner had."""
        sizes: list[int] = []
        submit = runner.submit

        def counting(calls: Sequence[Call], report: Report) -> None:
            sizes.append(len(calls))
            submit(calls, report)

        monkeypatch.setattr(runner, "submit", counting)
        return sizes

    @pytest.mark.parametrize(("items", "size"), [(10, 3), (4, 4), (5, 1), (3, 8)])
    def test_a_fixed_size_is_exact(
        self, world: World, run: Run, runner: TaskRunner, submissions: list[int], items: int, size: int
    ) -> None:
        async def body() -> list[int]:
            return [await world.get(future) for future in add.map(range(items), batch_size=size)]

        assert run(body) == list(range(items))
        if runner.batches:
            assert len(submissions) == math.ceil(items / size)
            assert max(submissions) == min(items, size)
        assert sum(submissions) == items

    def test_one_failing_item_spoils_no_other(self, world: World, run: Run, tmp_path: Path) -> None:
        @task(retries=1)
        def picky(number: int, folder: Path) -> int:
            note(folder / str(number), "entered")
            if number == 3:
                raise ValueError("three")
            return number

        async def body() -> Any:
            futures = picky.map(range(6), unmapped(tmp_path), batch_size=6)
            for future in futures:
                with contextlib.suppress(ValueError):
                    await world.get(future)
            return quote([future.state.type.value for future in futures])

        assert run(body) == ["COMPLETED"] * 3 + ["FAILED"] + ["COMPLETED"] * 2
        assert [len(entries(tmp_path / str(number))) for number in range(6)] == [1, 1, 1, 2, 1, 1]

    def test_many_small_tasks_travel_together(
        self, world: World, run: Run, runner: TaskRunner, submissions: list[int]
    ) -> None:
        async def body() -> int:
            return await world.get(total.submit(add.map(range(500), 1)))

        assert run(body) == sum(range(1, 501))
        assert sum(submissions) == 501
        if runner.batches:
            assert len(submissions) < 250

    def test_a_cache_hit_never_reaches_the_runner(
        self, world: World, run: Run, submissions: list[int], tmp_path: Path
    ) -> None:
        cached = touch.with_options(cache_policy=INPUTS - "file", result_storage=tmp_path / "store")

        async def body() -> list[Any]:
            return [await world.get(future) for future in cached.map([tmp_path / "calls"] * 4, range(4))]

        assert run(body) == [0, 1, 2, 3]
        assert sum(submissions) == 4
        assert run(body) == [0, 1, 2, 3]
        assert sum(submissions) == 4
        assert sorted(entries(tmp_path / "calls")) == ["0", "1", "2", "3"]


def test_a_task_knows_its_place_in_the_trace(world: World, run: Run) -> None:
    """Its span is made here, and is the current one where its function executes."""
    traces = Traces()

    async def body() -> list[tuple[int, int]]:
        return [await world.get(task(here).submit())]

    try:
        with Engine(sinks=[traces.sink()]):
            places = run(body, name="main")
        ((trace_id, span_id),) = places
        span = traces.span("task here")
        assert span.context is not None
        assert (trace_id, span_id) == (span.context.trace_id, span.context.span_id)
        assert traces.parent_of("task here") == "flow main"
    finally:
        traces.close()
