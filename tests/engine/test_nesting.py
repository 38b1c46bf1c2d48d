"""Flows in flows, tasks in tasks, either in the other, in both colours; methods; generators."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from worlds import World

from penstock import Engine, flow, runtime, task
from penstock.context import current_run
from penstock.errors import CancelledRun, ConfigurationError, ParameterBindError, UnhandledFailures
from penstock.runners import ThreadPoolTaskRunner
from penstock.states import StateType
from penstock.testing import penstock_test_harness, wait_until

WATCHDOG = 5.0


@task
def sync_task(value: int) -> int:
    return value + 1


@task
async def async_task(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


@flow
def sync_flow(value: int) -> int:
    return sync_task(value) + sync_task.submit(value).result()


@flow
async def async_flow(value: int) -> int:
    return await async_task(value) + await async_task.submit(value)


@pytest.mark.parametrize("work", [sync_task, async_task], ids=["sync task", "async task"])
@pytest.mark.parametrize("submitted", [False, True], ids=["called", "submitted"])
def test_the_eight_cells(world: World, engine: Engine, work: Any, submitted: bool) -> None:
    """Flow sync and async, task sync and async, called and submitted."""

    async def body() -> Any:
        return await world.get(work.submit(1) if submitted else work(1))

    assert world.run(flow(world.function(body))) == 2


def test_the_eight_cells_from_a_thread(engine: Engine) -> None:
    answers: list[Any] = []

    def use() -> None:
        answers.append(sync_flow(1))
        answers.append(asyncio.run(async_flow(1)))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(WATCHDOG)
    assert answers == [4, 4]


async def test_the_eight_cells_under_pytests_plugin(engine: Engine) -> None:
    assert await async_flow(1) == 4
    assert sync_flow(1) == 4


class TestFlowsInFlows:
    """A subflow is a call like any other, with a run of its own."""

    def test_to_any_depth(self, world: World, engine: Engine) -> None:
        async def body(depth: int) -> Any:
            return depth if depth == 0 else 1 + await world.get(deep(depth - 1))

        deep = flow(world.function(body))
        assert world.run(lambda: deep(20)) == 20

    def test_of_the_other_colour(self, world: World, engine: Engine) -> None:
        async def body() -> Any:
            return [sync_flow(1), await world.get(async_flow(1))]

        assert world.run(flow(world.function(body))) == [4, 4]

    def test_raise_what_they_raise(self, world: World, engine: Engine) -> None:
        error = KeyError("inner")

        async def fails() -> None:
            raise error

        inner = flow(world.function(fails))

        async def body() -> Any:
            try:
                await world.get(inner())
            except KeyError as caught:
                return caught

        assert world.run(flow(world.function(body))) is error

    def test_know_their_parent(self, world: World, engine: Engine) -> None:
        async def facts() -> Any:
            return runtime.flow_run.id, runtime.flow_run.parent_flow_run_id, runtime.flow_run.root_flow_run_id

        inner = flow(world.function(facts))

        async def middle() -> Any:
            return runtime.flow_run.id, await world.get(inner())

        outer = flow(world.function(middle))

        async def body() -> Any:
            return runtime.flow_run.id, await world.get(outer())

        root, (parent, (own, parent_of_inner, root_of_inner)) = world.run(flow(world.function(body)))
        assert (parent_of_inner, root_of_inner) == (parent, root)
        assert len({root, parent, own}) == 3

    def test_take_futures(self, world: World, engine: Engine) -> None:
        async def body() -> Any:
            future = sync_task.submit(1)
            await world.get(future)
            return sync_flow(future)

        assert world.run(flow(world.function(body))) == 6

    def test_retry_alone(self, engine: Engine) -> None:
        entered: list[str] = []

        @flow(retries=2)
        def inner() -> str:
            entered.append("inner")
            if len(entered) < 4:
                raise ValueError
            return "done"

        @flow
        def outer() -> str:
            entered.append("outer")
            return inner()

        assert outer() == "done"
        assert entered == ["outer", "inner", "inner", "inner"]


class TestTasksInTasks:
    """A task may call and submit tasks, and call flows."""

    def test_in_both_colours(self, world: World, engine: Engine) -> None:
        async def nested(value: int) -> Any:
            called = await world.get(sync_task(value))
            submitted = await world.get(async_task.submit(value))
            return called + submitted + await world.get((async_flow if world.is_async else sync_flow)(value))

        outer = task(world.function(nested))

        async def body() -> Any:
            return [await world.get(outer(1)), await world.get(outer.submit(1))]

        assert world.run(flow(world.function(body))) == [8, 8]

    def test_see_themselves_as_current(self, world: World, engine: Engine) -> None:
        async def inner_body() -> Any:
            return runtime.task_run.name

        inner = task(task_run_name="inner")(world.function(inner_body))

        async def outer_body() -> Any:
            before = runtime.task_run.name
            inside = [await world.get(inner()), await world.get(inner.submit())]
            return before, inside, runtime.task_run.name

        outer = task(task_run_name="outer")(world.function(outer_body))

        async def body() -> Any:
            got = [await world.get(outer()), await world.get(outer.submit())]
            assert runtime.task_run.name is None
            return got

        assert world.run(flow(world.function(body))) == [("outer", ["inner", "inner"], "outer")] * 2
        assert current_run.get() is None

    def test_fail_the_flow_if_nobody_looks(self, engine: Engine) -> None:
        @task
        def fail() -> None:
            raise ValueError("inner boom")

        @task
        def outer() -> str:
            fail.submit()
            return "outer returned"

        with pytest.raises(UnhandledFailures, match="inner boom"):
            flow(lambda: outer.submit().result())()

    def test_outside_of_any_flow(self, engine: Engine) -> None:
        @task
        def outer() -> int:
            return sync_task(1) + sync_task.submit(1).result() + sync_flow(1)

        assert outer() == 8
        assert outer.submit().result() == 8


class Counter:
    """A class whose methods are flows and tasks."""

    made = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    @task
    def add(self, amount: int) -> str:
        self.count += amount
        return f"{self.name}:{self.count}"

    @task
    async def add_async(self, amount: int) -> str:
        self.count += amount
        return f"{self.name}:{self.count}"

    @flow
    def run(self, amount: int) -> list[str]:
        return [self.add(amount), self.add.submit(amount).result(), self.add_async.submit(amount).result()]

    @task
    @classmethod
    def of_class(cls, amount: int) -> str:
        return f"{cls.__name__}:{amount}"

    @task
    @staticmethod
    def of_nobody(amount: int) -> str:
        return f"static:{amount}"

    @flow
    @classmethod
    def flow_of_class(cls) -> str:
        return cls.__name__

    @property
    def ready(self) -> bool:
        return True


class Child(Counter):
    """A subclass, so that ``cls`` can differ."""


class TestMethods:
    """A bound method keeps its own instance, whoever bound another meanwhile."""

    def test_of_two_instances_do_not_mix(self, engine: Engine) -> None:
        a, b = Counter("a"), Counter("b")

        @flow
        def run() -> Any:
            add_a, add_b = a.add, b.add
            futures = [add_a.submit(1), add_b.submit(10), add_a.submit(2), add_b.submit(20)]
            return [future.result() for future in futures], add_a(3), add_b(30)

        got, last_a, last_b = run()
        assert {text[0] for text in got[::2]} == {"a"}
        assert {text[0] for text in got[1::2]} == {"b"}
        assert (last_a, last_b) == ("a:6", "b:60")

    def test_can_be_flows(self, engine: Engine) -> None:
        assert Counter("x").run(1) == ["x:1", "x:2", "x:3"]

    def test_can_be_called_through_the_class(self, engine: Engine) -> None:
        counter = Counter("x")
        assert Counter.add(counter, 5) == "x:5"

    def test_of_classes_and_of_nobody(self, engine: Engine) -> None:
        assert Counter.of_class(1) == "Counter:1"  # type: ignore[call-arg, arg-type]
        assert Child.of_class(1) == "Child:1"  # type: ignore[call-arg, arg-type]
        assert Child("x").of_class(2) == "Child:2"  # type: ignore[call-arg, arg-type]
        assert Counter.of_nobody(3) == "static:3"  # type: ignore[call-arg, arg-type]
        assert Counter("x").of_nobody(4) == "static:4"  # type: ignore[call-arg, arg-type]
        assert Child.flow_of_class() == "Child"  # type: ignore[call-arg]

    def test_can_be_mapped_and_changed(self, engine: Engine) -> None:
        counter = Counter("x")

        @flow
        def run() -> Any:
            mapped = counter.add.map([1, 1, 1]).result()
            return sorted(mapped), counter.add.with_options(name="other").submit(1).result()

        assert run() == (["x:1", "x:2", "x:3"], "x:4")

    def test_refuse_missing_arguments_without_counting_self(self, engine: Engine) -> None:
        with pytest.raises(ParameterBindError, match="'amount'"):
            Counter("x").add()  # type: ignore[call-arg]


@task
def count_to(limit: int) -> Iterator[int]:
    for number in range(limit):
        assert runtime.task_run.name is not None
        yield number


@task
async def count_to_async(limit: int) -> AsyncIterator[int]:
    for number in range(limit):
        await asyncio.sleep(0)
        assert runtime.task_run.name is not None
        yield number


class TestGenerators:
    """A generator stays one when it is called, and is a list when it is submitted."""

    def test_called_is_lazy(self, engine: Engine) -> None:
        advanced: list[int] = []

        @task
        def numbers() -> Iterator[int]:
            for number in range(5):
                advanced.append(number)
                yield number

        @flow
        def run() -> Any:
            got = numbers()
            assert not advanced
            first = next(got)
            assert runtime.task_run.name is None
            return first, list(advanced), list(got)

        assert run() == (0, [0], [1, 2, 3, 4])

    def test_called_in_a_coroutine(self, engine: Engine) -> None:
        @flow
        async def run() -> Any:
            got = []
            async for number in count_to_async(3):
                assert runtime.task_run.name is None
                got.append(number)
            return got

        assert asyncio.run(run()) == [0, 1, 2]

    @pytest.mark.parametrize("work", [count_to, count_to_async])
    def test_submitted_is_a_list(self, world: World, engine: Engine, work: Any) -> None:
        async def body() -> Any:
            return await world.get(work.submit(3))

        assert world.run(flow(world.function(body))) == [0, 1, 2]

    def test_as_flows(self, engine: Engine) -> None:
        @flow
        def numbers() -> Iterator[int]:
            for number in range(3):
                yield sync_task(number)

        @flow
        async def numbers_async() -> AsyncIterator[int]:
            for number in range(3):
                yield await async_task(number)

        async def collect() -> list[int]:
            return [number async for number in numbers_async()]

        assert list(numbers()) == [1, 2, 3]
        assert asyncio.run(collect()) == [1, 2, 3]

    @pytest.mark.parametrize("leave", ["close", "exhaust", "raise"])
    def test_end_their_run(self, engine: Engine, leave: str) -> None:
        ends: list[str] = []

        def remember(_definition: Any, _run: Any, state: Any) -> None:
            ends.append(state.name)

        @flow(on_completion=[remember], on_failure=[remember], on_cancellation=[remember], on_crashed=[remember])
        def numbers() -> Iterator[int]:
            try:
                yield 1
                if leave == "raise":
                    raise ValueError("inside")
                yield 2
            finally:
                ends.append("finally")

        iterator = numbers()
        assert next(iterator) == 1
        if leave == "close":
            iterator.close()  # type: ignore[attr-defined]
        elif leave == "exhaust":
            assert list(iterator) == [2]
        else:
            with pytest.raises(ValueError, match="inside"):
                list(iterator)
        assert ends == ["finally", {"close": "Cancelled", "exhaust": "Completed", "raise": "Failed"}[leave]]

    @pytest.mark.parametrize("leave", ["aclose", "break", "cancel", "another task"])
    @pytest.mark.parametrize("decorator", [flow, task])
    def test_async_ones_that_are_left_clean_up(self, engine: Engine, decorator: Any, leave: str) -> None:
        """What the generator and the run do at their end may wait, and what goes on inside a flow is stopped."""
        ends: list[str] = []
        complaints: list[Any] = []

        def remember(_definition: Any, run: Any, state: Any) -> None:
            ends.append(f"{run.name} {state.name}")

        @task(task_run_name="child", on_cancellation=[remember])
        async def child() -> None:
            await asyncio.sleep(WATCHDOG)

        async def numbers() -> AsyncIterator[int]:
            try:
                future = child.submit() if decorator is flow else asyncio.create_task(asyncio.sleep(WATCHDOG))
                yield 1
                await future
                yield 2
            finally:
                await asyncio.sleep(0.001)
                ends.append("finally")

        naming = {f"{decorator.__name__}_run_name": "numbers"}
        hooks: dict[str, Any] = {
            f"on_{end}": [remember] for end in ("completion", "failure", "cancellation", "crashed")
        }
        generator = decorator(numbers, **naming, **hooks)

        async def consume() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
            iterator = generator()
            assert await anext(iterator) == 1
            assert current_run.get() is None
            if leave == "cancel":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(anext(iterator), 0.02)
            elif leave == "aclose":
                await iterator.aclose()
            elif leave == "another task":
                await asyncio.create_task(iterator.aclose())
            else:  # the loop closes it, in a task of its own
                del iterator
                await asyncio.to_thread(wait_until, lambda: "numbers Cancelled" in ends, "the run to end")

        asyncio.run(consume())
        stopped = ["child Cancelled"] if decorator is flow else []
        assert ends == ["finally", *stopped, "numbers Cancelled"]
        assert not complaints

    @pytest.mark.parametrize("leave", ["break", "go on"])
    def test_cancelling_an_async_one_spares_whoever_has_its_item(self, leave: str) -> None:
        """As an engine does at its end with a stream that was left a moment ago."""
        ends: list[str] = []

        @flow(on_cancellation=[lambda _, __, state: ends.append(state.message)])
        async def numbers() -> AsyncIterator[int]:
            for number in range(3):
                yield await async_task(number)

        async def consume() -> list[int]:
            async with Engine(history=None):
                iterator = numbers()
                got = [await anext(iterator)]
                if leave == "break":
                    del iterator
            await asyncio.sleep(0)
            if leave == "go on":
                with pytest.raises(CancelledRun):
                    got.append(await anext(iterator))
            return got

        assert asyncio.run(consume()) == [1]
        assert ends == ["cancelled at the engine's shutdown"]

    def test_each_item_may_be_asked_for_in_another_context(self, engine: Engine) -> None:
        """As services do: a thread of a pool for each item of a stream, an asyncio task for each of an async one."""
        ends: list[str] = []

        @flow(on_completion=[lambda _, __, state: ends.append(state.name)])
        def numbers() -> Iterator[str | None]:
            for _ in range(3):
                yield runtime.flow_run.name

        @flow(on_completion=[lambda _, __, state: ends.append(state.name)])
        async def numbers_async() -> AsyncIterator[str | None]:
            for _ in range(3):
                yield runtime.flow_run.name

        async def consume() -> list[str | None]:
            iterator, last = numbers(), object()
            names: list[Any] = [await asyncio.to_thread(next, iterator, last) for _ in range(4)]
            assert names.pop() is last
            iterator_async = numbers_async()
            names += [await asyncio.create_task(anext(iterator_async, last)) for _ in range(4)]  # type: ignore[call-overload, arg-type]
            assert names.pop() is last
            return names

        names = asyncio.run(consume())
        assert names == [names[0]] * 3 + [names[3]] * 3
        assert None not in names
        assert ends == ["Completed", "Completed"]

    def test_with_return_state_is_a_list(self, engine: Engine) -> None:
        state: Any = count_to(3, return_state=True)  # type: ignore[call-arg]
        assert state.type is StateType.COMPLETED
        assert state.result() == [0, 1, 2]


def test_recursion_with_one_worker_completes() -> None:
    @task
    def dive(depth: int) -> int:
        return 0 if depth == 0 else 1 + sum(dive.map([depth - 1]).result())

    with penstock_test_harness(ThreadPoolTaskRunner(1)):
        assert flow(lambda: dive.submit(50).result())() == 50


def test_anything_callable_can_be_decorated(engine: Engine) -> None:
    class Adder:
        def __call__(self, value: int) -> int:
            return value + 1

    assert task(Adder())(1) == 2
    assert task(Adder()).name == "Adder"
    assert flow(lambda: task(lambda: 5)())() == 5


def test_anything_else_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not callable"):
        task(5)  # type: ignore[call-overload]
