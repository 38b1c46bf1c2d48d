"""What flows may rely on, whatever the runner.

The bodies of flows are coroutines that each `World` turns into what it runs. Tasks leave their traces in files, so that
what happened on a worker is seen without asking the runner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from spans import Traces, here
from worlds import World

from penstock import Engine, allow_failure, flow, get_run_logger, quote, runtime, tags, task, unmapped
from penstock.cache_policies import FLOW_PARAMETERS, INPUTS
from penstock.errors import CancelledRun, CrashedRun, SerializationError, TimedOut, UpstreamFailed
from penstock.ports import Call, Report
from penstock.results import ResultStore
from penstock.runners import TaskRunner
from penstock.testing import wait_until
from penstock_runners.probes import entries, note

pytestmark = pytest.mark.leaks("the shared clusters outlive a test, and replace the workers that tests kill")

Run = Callable[..., Any]

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture
def run(world: World, runner: TaskRunner) -> Run:
    """Make a flow of a body, run it on the runner, and give its value."""

    def run_body(body: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return world.run(lambda: flow(task_runner=runner, **options)(world.function(body))(*args))

    return run_body


async def aside(world: World, function: Callable[[], object]) -> None:
    """Call something that blocks, in a flow's body."""
    if world.is_async:
        await asyncio.to_thread(function)
    else:
        function()


@task
def add(left: Any, right: Any = 0) -> Any:
    return left + right


@task
def total(values: Any) -> Any:
    return sum(values)


@task
def fail(text: str) -> None:
    raise ValueError(text)


@task
def touch(file: Path, text: object) -> object:
    note(file, text)
    return text


class TestData:
    def test_futures_are_found_in_containers(self, world: World, run: Run) -> None:
        @task
        def unwrap(nested: dict[str, Any], *, named: tuple[Any, ...]) -> list[Any]:
            return [nested["list"][0], nested["deep"]["er"], *named]

        async def body() -> list[Any]:
            one, two = add.submit(1), add.submit(1, 1)
            return await world.get(unwrap.submit({"list": [one], "deep": {"er": two}}, named=(one, 3)))

        assert run(body) == [1, 2, 1, 3]

    def test_a_chain_of_submissions(self, world: World, run: Run) -> None:
        async def body() -> int:
            future = add.submit(0, 1)
            for _ in range(9):
                future = add.submit(future, 1)
            return await world.get(future)

        assert run(body) == 10

    def test_a_map_of_a_map_of_a_map(self, world: World, run: Run) -> None:
        async def body() -> int:
            doubled = add.map(range(20), range(20))
            again = add.map(doubled, doubled)
            return await world.get(total.submit(again))

        assert run(body) == 4 * sum(range(20))

    def test_unmapped_values_go_to_every_item(self, world: World, run: Run) -> None:
        async def body() -> list[Any]:
            return [await world.get(future) for future in add.map([[1], [2], [3]], unmapped([7]))]

        assert run(body) == [[1, 7], [2, 7], [3, 7]]

    def test_large_values_go_from_task_to_task(self, world: World, run: Run) -> None:
        @task
        def make(size: int) -> bytes:
            return b"x" * size

        @task
        def size_of(data: bytes) -> int:
            return len(data)

        async def body() -> int:
            return await world.get(size_of.submit(make.submit(3_000_000)))

        assert run(body) == 3_000_000

    def test_waits_for(self, world: World, run: Run, tmp_path: Path) -> None:
        @task
        def slow(file: Path) -> None:
            time.sleep(0.1)  # so long a run that did not wait would have to overtake this one
            note(file, "first")

        async def body() -> None:
            await world.get(touch.submit(tmp_path / "order", "second", wait_for=[slow.submit(tmp_path / "order")]))

        run(body)
        assert entries(tmp_path / "order") == ["first", "second"]

    def test_generators_and_async_tasks(self, world: World, run: Run) -> None:
        @task
        def count(limit: int) -> Iterator[int]:
            yield from range(limit)

        @task
        async def double(value: int) -> int:
            return 2 * value

        @task
        async def count_slowly(limit: int) -> Any:
            for number in range(limit):
                yield number

        async def body() -> list[Any]:
            return [
                await world.get(count.submit(3)),
                await world.get(double.submit(4)),
                await world.get(count_slowly.submit(2)),
            ]

        assert run(body) == [[0, 1, 2], 8, [0, 1]]


class TestNesting:
    def test_a_task_calls_a_task(self, world: World, run: Run) -> None:
        @task
        def outer(value: int) -> int:
            return add(value, 1) + add(value, 2)

        async def body() -> int:
            return await world.get(outer.submit(10))

        assert run(body) == 23

    def test_a_task_submits_tasks_and_waits(self, world: World, run: Run) -> None:
        @task
        def outer(value: int) -> int:
            futures = [add.submit(value, number) for number in range(4)]
            return sum(future.result() for future in futures) + sum(add.map([1, 2], unmapped(value)).result())

        async def body() -> list[int]:
            return [await world.get(future) for future in outer.map([1, 2, 3, 4])]

        assert run(body) == [value * 4 + 6 + 2 * value + 3 for value in (1, 2, 3, 4)]

    def test_a_task_calls_a_flow(self, world: World, run: Run) -> None:
        @flow
        def inner(value: int) -> int:
            return add.submit(value, 1).result()

        @task
        def outer(value: int) -> int:
            return inner(value) * 2

        async def body() -> int:
            return await world.get(outer.submit(10))

        assert run(body) == 22

    def test_what_is_stored_inside_lies_where_the_flow_says(self, world: World, run: Run, tmp_path: Path) -> None:
        cached = touch.with_options(cache_policy=INPUTS)
        by_flow = touch.with_options(cache_policy=FLOW_PARAMETERS)

        @task
        def outer(file: Path, name: str) -> Any:
            by_flow(file, name)
            return cached(file, "cached"), add(1, 2)

        async def body(name: str) -> Any:
            return await world.get(outer.submit(tmp_path / "calls", name))

        store = ResultStore(tmp_path / "store")
        for name in ("first", "second"):
            assert run(body, name, result_storage=store, persist_result=True) == ("cached", 3)
        assert sorted(entries(tmp_path / "calls")) == ["cached", "first", "second"]
        names = [store.info(key).provenance["definition"] for key in store.keys()]  # noqa: SIM118
        assert names.count("touch") >= 1
        assert names.count("add") == names.count("outer") == 2

    def test_what_fails_inside_fails_outside(self, world: World, run: Run) -> None:
        @task
        def outer() -> None:
            fail("inside")

        async def body() -> None:
            await world.get(outer.submit())

        with pytest.raises(ValueError, match="inside"):
            run(body)


class TestFailures:
    def test_retries_are_attempts(self, world: World, run: Run, tmp_path: Path) -> None:
        @task(retries=2)
        def flaky(file: Path) -> int:
            note(file, runtime.task_run.run_count)
            if len(entries(file)) < 3:
                raise ValueError("not yet")
            return runtime.task_run.run_count

        async def body() -> int:
            return await world.get(flaky.submit(tmp_path / "attempts"))

        assert run(body) == 3
        assert entries(tmp_path / "attempts") == ["1", "2", "3"]

    def test_retries_are_used_up(self, world: World, run: Run, tmp_path: Path) -> None:
        @task(retries=1)
        def hopeless(file: Path) -> None:
            note(file, "entered")
            raise ValueError("never")

        async def body() -> None:
            await world.get(hopeless.submit(tmp_path / "attempts"))

        with pytest.raises(ValueError, match="never"):
            run(body)
        assert entries(tmp_path / "attempts") == ["entered"] * 2

    def test_a_failure_skips_what_depends_on_it(self, world: World, run: Run) -> None:
        @task
        def describe(error: BaseException) -> str:
            return f"{type(error).__name__}: {error}"

        async def body() -> list[Any]:
            failed = fail.submit("broken")
            skipped = add.submit(failed, 1)
            told = describe.submit(allow_failure(failed))
            with pytest.raises(UpstreamFailed) as refusal:
                await world.get(skipped)
            return [skipped.state.name, type(refusal.value.__cause__), await world.get(told)]

        assert run(body) == ["UpstreamFailed", ValueError, "ValueError: broken"]

    def test_an_exception_with_two_arguments(self, world: World, run: Run) -> None:
        class TwoArguments(Exception):
            def __init__(self, code: int, text: str) -> None:
                super().__init__(f"{code}: {text}")
                self.code = code

        @task
        def refuse() -> None:
            raise TwoArguments(404, "gone")

        async def body() -> tuple[str, str, Any]:
            future = refuse.submit()
            with contextlib.suppress(Exception):
                await world.get(future)
            error = future.exception()
            return type(error).__name__, str(error), getattr(error, "code", None)

        assert run(body) == ("TwoArguments", "404: gone", 404)

    def test_an_exception_that_cannot_travel(self, world: World, run: Run) -> None:
        @task
        def refuse() -> None:
            raise ValueError("told all the same", threading.Lock())

        async def body() -> None:
            await world.get(refuse.submit())

        with pytest.raises(ValueError, match="told all the same"):
            run(body)

    def test_arguments_and_results_that_cannot_travel(self, world: World, run: Run, runner: TaskRunner) -> None:
        @task
        def make_lock() -> Any:
            return {"inner": threading.Lock()}

        async def body() -> Any:
            futures = [make_lock.submit(), add.submit([threading.Lock()], [])]
            for future in futures:
                with contextlib.suppress(SerializationError):
                    await world.get(future)
            return quote([future.state for future in futures])

        result, argument = run(body)
        if runner.remote:
            assert isinstance(result.error, SerializationError)
            assert "inner" in str(result.error)
            assert isinstance(argument.error, SerializationError)
            assert "lock" in str(argument.error)
        else:
            assert result.is_completed()
            assert argument.is_completed()


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


def test_results_are_the_same_everywhere(world: World, run: Run) -> None:
    """One program with most of the above; its value is written down here, not compared between runners."""

    @task(retries=1)
    def square(number: int) -> int:
        return number * number

    @task
    def pair(left: int, right: int) -> tuple[int, int]:
        return left, right

    @task
    async def widen(both: tuple[int, int]) -> Iterator[int] | list[int]:
        return list(both) * 2

    async def body() -> dict[str, Any]:
        squares = square.map(range(6))
        pairs = pair.map(squares, squares[::-1])
        wide = widen.map(pairs)
        return {"total": total.submit(squares), "first": wide[0], "last": pairs[-1], "all": [*squares]}

    assert run(body) == {"total": 55, "first": [0, 25, 0, 25], "last": (25, 0), "all": [0, 1, 4, 9, 16, 25]}


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
