"""Handles to runs: asked, awaited, waited for, listened to, in every world."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from worlds import World

from penstock import Engine, as_completed, flow, task, wait, wait_async
from penstock.errors import InvalidCall, UnfinishedRun, WouldBlock
from penstock.futures import Future, FutureList
from penstock.runners import ThreadPoolTaskRunner
from penstock.testing import penstock_test_harness

WATCHDOG = 5.0
"""Seconds that a gate stays closed at most, so that a failing test does not hang."""


class Gate:
    """Holds functions until the test lets them go."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.entered = threading.Event()

    def open(self) -> None:
        self._open.set()

    def pass_through(self, value: Any = None) -> Any:
        self.entered.set()
        assert self._open.wait(WATCHDOG), "nobody opened the gate"
        return value


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture(autouse=True)
def threads() -> Iterator[Engine]:
    """Two workers, so that one can be held."""
    with penstock_test_harness(ThreadPoolTaskRunner(2)) as engine:
        yield engine


@task
def double(value: int) -> int:
    return 2 * value


@task
async def double_async(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


@task
def fail(text: str = "boom") -> None:
    raise ValueError(text)


@pytest.mark.parametrize("work", [double, double_async], ids=["sync", "async"])
class TestValue:
    """The value, however it is asked for."""

    def test_of_one(self, world: World, work: Any) -> None:
        async def body() -> Any:
            future = work.submit(4)
            first = await world.get(future)
            return first, await world.get(future), future.result(), future.done

        assert world.run(flow(world.function(body))) == (8, 8, 8, True)

    def test_of_a_list(self, world: World, work: Any) -> None:
        async def body() -> Any:
            futures = work.map(range(20))
            if world.is_async:
                return await futures
            return futures.result()

        assert world.run(flow(world.function(body))) == [2 * n for n in range(20)]

    def test_as_completed_yields_each_once(self, world: World, work: Any) -> None:
        async def body() -> Any:
            futures = work.map(range(20))
            ended = await world.all_ended([*futures, *futures])
            return len(ended), {future.result() for future in ended}

        assert world.run(flow(world.function(body))) == (20, {2 * n for n in range(20)})

    def test_wait_sorts_out(self, world: World, work: Any) -> None:
        async def body() -> Any:
            futures = work.map(range(5))
            done, not_done = (await wait_async(futures)) if world.is_async else wait(futures)
            return done == set(futures), not_done

        assert world.run(flow(world.function(body))) == (True, set())


class TestFailure:
    """A failure, however it is asked for."""

    def test_raises_the_very_exception(self, world: World) -> None:
        raised = KeyError("mine", 2)

        @task
        def fail_with() -> None:
            raise raised

        async def body() -> Any:
            try:
                await world.get(fail_with.submit())
            except KeyError as error:
                return error

        assert world.run(flow(world.function(body))) is raised

    def test_can_be_returned_instead(self) -> None:
        @flow
        def run() -> Any:
            future = fail.submit()
            return [str(future.result(raise_on_failure=False)), str(future.exception()), future.state.name]

        assert run() == ["boom", "boom", "Failed"]

    def test_of_a_list_raises_as_soon_as_one_failed(self, gate: Gate) -> None:
        @task
        def work(name: str) -> str:
            if name == "fails":
                gate.entered.wait(WATCHDOG)
                raise ValueError("early")
            return gate.pass_through(name)  # type: ignore[no-any-return]

        @flow
        def run() -> str:
            futures = work.map(["waits", "fails"])
            try:
                futures.result()
            except ValueError as error:
                still = not futures[0].done
                gate.open()
                return f"{error}, other unfinished: {still}"
            return "no error"

        assert run() == "early, other unfinished: True"

    def test_of_a_list_can_be_collected(self) -> None:
        @flow
        def run() -> Any:
            return [str(value) for value in fail.map(["a", "b"]).result(raise_on_failure=False)]

        assert run() == ["a", "b"]

    def test_exception_of_a_success_is_none(self) -> None:
        @flow
        def run() -> Any:
            return double.submit(1).exception()

        assert run() is None


class TestTimeout:
    """Waiting for a bounded time: the run goes on."""

    def test_result_says_that_the_run_goes_on(self, gate: Gate) -> None:
        @task
        def held() -> int:
            return gate.pass_through(7)  # type: ignore[no-any-return]

        @flow
        def run() -> int:
            future = held.submit()
            with pytest.raises(TimeoutError, match=r"held.*it goes on"):
                future.result(timeout=0.01)
            with pytest.raises(TimeoutError):
                future.exception(timeout=0.0)
            future.wait(timeout=0.01)
            assert not future.done
            gate.open()
            return future.result(timeout=WATCHDOG)

        assert run() == 7

    def test_wait_and_as_completed_count_what_is_left(self, gate: Gate) -> None:
        @task
        def held() -> int:
            return gate.pass_through(7)  # type: ignore[no-any-return]

        @flow
        def run() -> Any:
            futures: list[Future[int]] = [double.submit(1), held.submit()]
            done, not_done = wait(futures, timeout=0.05)
            with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
                list(as_completed(futures, timeout=0.01))
            gate.open()
            return len(done), len(not_done)

        assert run() == (1, 1)

    def test_in_a_coroutine(self, gate: Gate) -> None:
        @task
        def held() -> int:
            return gate.pass_through(7)  # type: ignore[no-any-return]

        @flow
        async def run() -> Any:
            futures: list[Future[int]] = [double.submit(1), held.submit()]
            done, not_done = await wait_async(futures, timeout=0.05)
            with pytest.raises(TimeoutError, match="unfinished"):
                async for _ in as_completed(futures, timeout=0.01):
                    pass
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await futures[1]
            gate.open()
            return len(done), len(not_done), await futures[1]

        assert asyncio.run(run()) == (1, 1, 7)

    def test_negative_is_refused(self) -> None:
        with pytest.raises(ValueError, match="negative"):
            wait([], timeout=-1)


class TestWouldBlock:
    """A coroutine that blocks its loop is told to await instead."""

    @pytest.mark.parametrize(
        "ask",
        [
            lambda future: future.result(),
            lambda future: future.result(timeout=1),
            lambda future: future.wait(),
            lambda future: future.exception(),
            lambda future: wait([future]),
            lambda future: list(as_completed([future])),
            lambda future: FutureList([future]).result(),
        ],
        ids=["result", "result timeout", "wait", "exception", "wait function", "as_completed", "list"],
    )
    @pytest.mark.parametrize("is_async", [False, True])
    def test_names_await(self, gate: Gate, is_async: bool, ask: Callable[[Future[Any]], Any]) -> None:
        @task
        def held() -> int:
            return gate.pass_through(7)  # type: ignore[no-any-return]

        @task
        async def held_async() -> int:
            return await asyncio.to_thread(gate.pass_through, 7)  # type: ignore[no-any-return]

        @flow
        async def run() -> Any:
            future = (held_async if is_async else held).submit()  # type: ignore[attr-defined]
            with pytest.raises(WouldBlock, match="await"):
                ask(future)
            gate.open()
            assert await future == 7
            return ask(future)

        asyncio.run(run())

    def test_is_not_raised_where_a_sync_flow_was_called_on_a_loop(self) -> None:
        @flow
        def run() -> Any:
            return [double.submit(1).result(), double_async.submit(2).result(), double_async(3)]

        async def caller() -> Any:
            return run()

        assert asyncio.run(caller()) == [2, 4, 6]


@task
def slow(gate: Gate) -> int:
    return gate.pass_through(7)  # type: ignore[no-any-return]


class Lingering:
    """A callback that takes half a second, unless its flow is over before."""

    was_late: bool | None = None

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self, _: object) -> None:
        self.begun.set()
        self.was_late = self.over.wait(0.5)


class TestCallbacks:
    """Callbacks run once, whether added before or after the end."""

    def test_before_and_after(self, gate: Gate) -> None:
        seen: list[tuple[str, Any]] = []

        @flow
        def run() -> None:
            future = slow.submit(gate)
            future.add_done_callback(lambda ended: seen.append(("before", ended)))
            assert not seen
            gate.open()
            future.result()
            future.add_done_callback(lambda ended: seen.append(("after", ended)))
            assert [(name, ended is future) for name, ended in seen] == [("before", True), ("after", True)]

        run()

    def test_of_a_thousand_futures(self) -> None:
        seen: list[int] = []

        @flow
        def run() -> None:
            for future in double.map(range(1000)):
                future.add_done_callback(lambda ended: seen.append(ended.result()))

        run()
        assert sorted(seen) == [2 * n for n in range(1000)]

    @pytest.mark.parametrize("fails", [False, True])
    def test_return_before_the_flow_does(self, gate: Gate, fails: bool) -> None:
        callback = Lingering()

        @flow
        def run() -> None:
            held = slow.submit(gate)
            held.add_done_callback(callback)
            gate.open()
            assert callback.begun.wait(WATCHDOG)
            if fails:
                raise ValueError("the flow")

        run(return_state=True)
        callback.over.set()
        assert callback.was_late is False

    async def test_return_before_an_async_flow_does(self, gate: Gate) -> None:
        callback = Lingering()

        @flow
        async def run() -> None:
            held = slow.submit(gate)
            held.add_done_callback(callback)
            gate.open()
            assert await asyncio.to_thread(callback.begun.wait, WATCHDOG)

        await run()
        callback.over.set()
        assert callback.was_late is False

    def test_that_nobody_would_await_are_refused(self) -> None:
        async def callback(future: Future[int]) -> None: ...

        @flow
        def run() -> None:
            with pytest.raises(InvalidCall, match=r"callback\): nobody would await the coroutine"):
                double.submit(1).add_done_callback(callback)

        run()

    def test_of_a_run_that_was_let_go_hold_nobody_up(self, gate: Gate) -> None:
        seen: list[int] = []

        @flow(on_unfinished="detach")
        def run() -> None:
            slow.submit(gate).add_done_callback(lambda ended: seen.append(ended.result()))

        with Engine(history=None):
            run()
            assert not seen
            gate.open()
        assert seen == [7]

    def test_added_while_the_run_ends_are_called_once(self) -> None:
        """Two threads race: one ends the run, one adds callbacks."""
        for _ in range(200):
            seen: list[int] = []

            @flow
            def run(seen: list[int] = seen) -> None:
                future = double.submit(1)
                for number in range(20):
                    future.add_done_callback(lambda _, number=number: seen.append(number))  # type: ignore[misc]
                future.result()

            run()
            assert sorted(seen) == list(range(20))


class TestFacts:
    """What a handle tells about its run."""

    def test_names_ids_and_states(self, gate: Gate) -> None:
        @task(task_run_name="held-{x}")
        def held(x: int) -> int:
            return gate.pass_through(x)  # type: ignore[no-any-return]

        @flow
        def run() -> None:
            future = held.submit(5)
            assert gate.entered.wait(WATCHDOG)
            assert future.name == "held-5"
            assert future.task_run_id == future.id == future.run.id
            assert future.state.is_running()
            assert not future.cancelled()
            gate.open()
            future.wait()
            assert future.state.is_completed()
            assert "held-5" in repr(future)
            assert future.cancel() is False

        run()

    def test_a_state_that_is_no_end_has_no_result(self, gate: Gate) -> None:
        @task
        def held() -> int:
            return gate.pass_through(7)  # type: ignore[no-any-return]

        @flow
        def run() -> None:
            future = held.submit()
            with pytest.raises(UnfinishedRun):
                future.state.result()
            gate.open()

        run()


class TestAwaiting:
    """Futures among the things that asyncio knows."""

    def test_gather_task_group_and_shield(self) -> None:
        @flow
        async def run() -> Any:
            gathered = await asyncio.gather(double.submit(1), double_async.submit(2))
            async with asyncio.TaskGroup() as group:
                third = group.create_task(_await(double.submit(3)))
            return [*gathered, third.result(), await asyncio.shield(_await(double.submit(4)))]

        assert asyncio.run(run()) == [2, 4, 6, 8]

    def test_a_future_of_another_loop(self) -> None:
        """An async task of a synchronous flow lives on the engine's loop; a coroutine elsewhere may await it."""

        @flow
        def run() -> Any:
            future = double_async.submit(5)
            answers: list[int] = []
            thread = threading.Thread(target=lambda: answers.append(asyncio.run(_await(future))))
            thread.start()
            thread.join(WATCHDOG)
            return answers

        assert run() == [10]

    def test_a_cancelled_await_leaves_the_run_alone(self, gate: Gate) -> None:
        @task
        def held() -> int:
            return gate.pass_through(7)  # type: ignore[no-any-return]

        @flow
        async def run() -> Any:
            future = held.submit()
            waiter = asyncio.create_task(_await(future))
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            gate.open()
            return await future

        assert asyncio.run(run()) == 7


async def _await(future: Future[Any]) -> Any:
    return await future


def test_a_task_can_be_submitted_outside_of_any_flow() -> None:
    assert double.submit(2).result() == 4
    assert double_async.submit(2).result() == 4
    assert double.map([1, 2]).result() == [2, 4]

    async def in_a_coroutine() -> Any:
        return [await double.submit(2), await double_async.submit(3), await double.map([4])]

    assert asyncio.run(in_a_coroutine()) == [4, 6, [8]]


def test_submit_with_return_state_waits() -> None:
    @flow
    def run() -> Any:
        return [double.submit(1, return_state=True).name, fail.submit(return_state=True).name]  # type: ignore[call-overload, attr-defined]

    assert run() == ["Completed", "Failed"]


@pytest.mark.parametrize("made", [flow, task])
def test_a_synchronous_call_in_a_coroutine_is_told_to_await_its_argument(gate: Gate, made: Any) -> None:
    """It would block the loop until the argument is there."""

    @task
    def held() -> int:
        return gate.pass_through(7)  # type: ignore[no-any-return]

    echo = made(lambda value: value)

    @flow
    async def run() -> Any:
        future = held.submit()
        with pytest.raises(WouldBlock, match=r"held.*await"):
            echo(future)
        gate.open()
        await future
        return echo(future)

    assert asyncio.run(run()) == 7


def test_a_sync_subflow_of_a_coroutine_may_wait_for_its_own_children() -> None:
    @flow
    def inner() -> str:
        double.submit(1)
        double_async.submit(1)
        return "returned"

    @flow
    async def outer() -> str:
        return inner()

    assert asyncio.run(outer()) == "returned"
