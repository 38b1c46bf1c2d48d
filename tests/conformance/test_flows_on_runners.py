"""What flows may rely on, whatever the runner: values, nesting, errors.

The bodies of flows are coroutines that each `World` turns into what it runs. Tasks leave their traces in files, so that
what happened on a worker is seen without asking the runner.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_tasks import Run, add, fail, total, touch
from worlds import World

from penstock import allow_failure, flow, quote, runtime, task, unmapped
from penstock.cache_policies import FLOW_PARAMETERS, INPUTS
from penstock.context import current_run
from penstock.errors import SerializationError, UpstreamFailed
from penstock.results import ResultStore
from penstock.runners import TaskRunner
from penstock_runners.probes import entries, note

pytestmark = pytest.mark.leaks("the shared clusters outlive a test, and replace the workers that tests kill")


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


@task
def sync_down(depth: int, submitted: bool) -> int:
    if depth == 0:
        return 0
    return 1 + (async_down.submit(depth - 1, submitted).result() if submitted else async_down(depth - 1, submitted))


@task
async def async_down(depth: int, submitted: bool) -> int:
    if depth == 0:
        return 0
    return 1 + (await sync_down.submit(depth - 1, submitted) if submitted else sync_down(depth - 1, submitted))


@pytest.mark.parametrize("submitted", [False, True], ids=["called", "submitted"])
@pytest.mark.parametrize("top", [sync_down, async_down], ids=["sync", "async"])
def test_both_colours_take_one_another(world: World, run: Run, top: Any, submitted: bool) -> None:
    """A coroutine calls a function that waits for a coroutine, again and again, wherever the first one runs."""

    async def body() -> list[int]:
        return [await world.get(top.submit(5, submitted)), await world.get(top(5, submitted))]

    assert run(body) == [5, 5]


class TestHooks:
    """What the author has called may wait for runs like everything else, wherever the engine calls it."""

    @pytest.mark.parametrize("colour", ["sync", "async"])
    @pytest.mark.parametrize("moment", ["on_running", "on_completion"])
    def test_that_wait_for_runs(self, world: World, run: Run, moment: str, colour: str) -> None:
        got: list[Any] = []

        def hook(_task: Any, run: Any, _state: Any) -> None:
            assert current_run.get() is run
            got.append(add.submit(1, 2).result())

        async def hook_async(_task: Any, run: Any, _state: Any) -> None:
            assert current_run.get() is run
            got.append(await add.submit(1, 2))

        hooked = add.with_options(**{moment: [hook if colour == "sync" else hook_async]})

        async def body() -> list[int]:
            return [await world.get(future) for future in [hooked.submit(number, 1) for number in range(5)]]

        assert run(body) == [1, 2, 3, 4, 5]
        assert got == [3] * 5

    def test_callbacks_that_wait_for_runs(self, world: World, run: Run) -> None:
        got: list[Any] = []

        def callback(future: Any) -> None:
            got.append(add.submit(future.result(), 10).result())

        async def body() -> None:
            for future in [add.submit(number, 1) for number in range(5)]:
                future.add_done_callback(callback)

        run(body)
        assert sorted(got) == [11, 12, 13, 14, 15]


class TestOneForAll:
    """Several want the value of one cache key, some of them inside others."""

    def test_calls_that_take_one_another_end(self, world: World, run: Run, tmp_path: Path) -> None:
        # What is first in the map takes what comes later in it, which has its key already and may have no worker yet.
        @task(cache_policy=INPUTS, result_storage=tmp_path / "store")
        def fibonacci(n: int) -> int:
            if n < 2:
                return n
            one, other = fibonacci.submit(n - 1), fibonacci.submit(n - 2)
            return one.result() + other.result()

        async def body() -> list[int]:
            return [await world.get(future) for future in fibonacci.map(range(8, 0, -1))]

        assert run(body) == [21, 13, 8, 5, 3, 2, 1, 1]

    def test_inside_several_calls_it_is_made_once(self, world: World, run: Run, tmp_path: Path) -> None:
        inner = touch.with_options(cache_policy=INPUTS, result_storage=tmp_path / "store")

        @task
        def outer(file: Path, _: int) -> str:
            return inner(file, "made")

        async def body() -> list[str]:
            file = tmp_path / "calls"
            return [await world.get(future) for future in outer.map([file] * 6, range(6))]

        assert run(body) == ["made"] * 6
        assert entries(tmp_path / "calls") == ["made"]
