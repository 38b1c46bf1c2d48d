"""One task over many arguments: what is mapped and what is not, and windows over inputs without end."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from worlds import World

from penstock import Engine, allow_failure, flow, quote, task, unmapped
from penstock.errors import ConfigurationError, MappingLengthMismatch, MappingMissingIterable, UpstreamFailed
from penstock.futures import Future, FutureList
from penstock.runners import ThreadPoolTaskRunner
from penstock.testing import penstock_test_harness

WATCHDOG = 5.0


@task
def pair(a: Any, b: Any = None) -> tuple[Any, Any]:
    return a, b


@task
async def pair_async(a: Any, b: Any = None) -> tuple[Any, Any]:
    await asyncio.sleep(0)
    return a, b


def mapped(*args: Any, **kwargs: Any) -> Any:
    @flow
    def run() -> Any:
        return pair.map(*args, **kwargs).result()

    return run()


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (([1, 2],), {}, [(1, None), (2, None)]),
        (([1, 2], [3, 4]), {}, [(1, 3), (2, 4)]),
        (([1, 2],), {"b": 9}, [(1, 9), (2, 9)]),
        (([1, 2], "text"), {}, [(1, "text"), (2, "text")]),
        (([1, 2], b"bytes"), {}, [(1, b"bytes"), (2, b"bytes")]),
        (([1, 2],), {"b": unmapped([7, 8])}, [(1, [7, 8]), (2, [7, 8])]),
        ((unmapped([7]), [1, 2]), {}, [([7], 1), ([7], 2)]),
        (((1, 2),), {"b": (n for n in (5, 6))}, [(1, 5), (2, 6)]),
        ((range(2),), {"b": {"x": 0, "y": 0}}, [(0, "x"), (1, "y")]),
        (({3},), {}, [(3, None)]),
        (([],), {}, []),
        ((iter([]), []), {}, []),
        (([[1, 2], [3]],), {}, [([1, 2], None), ([3], None)]),
        (([None, None],), {}, [(None, None), (None, None)]),
        (("text",), {"b": ["x"]}, [("text", "x")]),
    ],
)
def test_what_is_mapped(default_engine: Engine, args: Any, kwargs: Any, expected: Any) -> None:
    assert mapped(*args, **kwargs) == expected


def test_an_unmapped_value_is_the_same_object_for_all(engine: Engine) -> None:
    whole = [1]
    assert all(b is whole for _, b in mapped([1, 2], unmapped(whole)))


class TestRefusals:
    """A map that cannot work starts nothing and names the place."""

    def test_lengths_are_named(self, engine: Engine) -> None:
        with pytest.raises(MappingLengthMismatch, match=r"task 'pair'.*a: 2, b: 3.*unmapped"):
            mapped([1, 2], b=iter([1, 2, 3]))

    @pytest.mark.parametrize("args", [(1,), ("text",), (unmapped([1]),), ()])
    def test_nothing_to_map_over(self, engine: Engine, args: Any) -> None:
        with pytest.raises(MappingMissingIterable, match=r"task 'pair'"):
            mapped(*args)


class TestFutures:
    """Futures in place of items, of lists, and of what every run gets."""

    def test_in_a_list(self, world: World, engine: Engine) -> None:
        async def body() -> Any:
            firsts = pair.map([1, 2])
            futures = pair_async.map(firsts, unmapped(firsts[0]))
            return [await world.get(future) for future in futures]

        assert world.run(flow(world.function(body))) == [((n, None), (1, None)) for n in (1, 2)]

    def test_of_a_list(self, engine: Engine) -> None:
        @task
        def numbers() -> list[int]:
            return [1, 2, 3]

        @flow
        def run() -> Any:
            return pair.map(numbers.submit(), 0).result()

        assert run() == [(1, 0), (2, 0), (3, 0)]

    def test_of_a_failure(self, engine: Engine) -> None:
        @task
        def fail(number: int) -> int:
            if number == 2:
                raise ValueError("two")
            return number

        @flow
        def run() -> Any:
            futures = pair.map(fail.map([1, 2, 3]))
            return [future.result(raise_on_failure=False) for future in futures]

        first, second, third = run()
        assert (first, third) == ((1, None), (3, None))
        assert isinstance(second, UpstreamFailed)
        assert str(second.__cause__) == "two"

    def test_of_a_failure_that_is_allowed(self, engine: Engine) -> None:
        @task
        def fail(number: int) -> int:
            raise ValueError(number)

        @flow
        def run() -> Any:
            return [str(a) for a, _ in pair.map(allow_failure(fail.map([1, 2]))).result()]

        assert run() == ["1", "2"]

    def test_quoted(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            futures = pair.map([1, 2])
            futures.wait()
            return [type(a) for a, _ in pair.map(quote(futures)).result()]

        assert run() == [Future, Future]

    def test_waits_for(self, engine: Engine) -> None:
        order: list[str] = []

        @task
        def note(text: str) -> None:
            order.append(text)

        @flow
        def run() -> None:
            note.map(["b", "c"], wait_for=[note.submit("a")]).wait()

        run()
        assert order[0] == "a"
        assert sorted(order) == ["a", "b", "c"]


def test_the_next_stage_starts_before_the_last_one_ends() -> None:
    late = threading.Event()

    @task
    def first(number: int) -> int:
        if number == 1:
            assert late.wait(WATCHDOG), "item 0 of the second stage never started"
        return number

    @task
    def second(number: int) -> int:
        if number == 0:
            late.set()
        return number

    with penstock_test_harness(ThreadPoolTaskRunner(2)):

        @flow
        def run() -> list[int]:
            return second.map(first.map([0, 1])).result()

        assert run() == [0, 1]


def test_one_failing_item_spoils_no_other(engine: Engine) -> None:
    @task
    def work(number: int) -> int:
        if number % 3 == 0:
            raise ValueError(number)
        return number

    @flow
    def run() -> Any:
        return [future.state.name for future in work.map(range(9)) if future.wait() is None]

    assert run() == ["Failed", "Completed", "Completed"] * 3


def test_map_with_return_state(engine: Engine) -> None:
    @flow
    def run() -> Any:
        states = pair.map([1, 2], return_state=True)
        return quote([state.result() for state in states])

    assert run() == [(1, None), (2, None)]


def test_a_list_of_futures_is_a_list(engine: Engine) -> None:
    @flow
    def run() -> None:
        futures = pair.map(range(3))
        assert isinstance(futures, FutureList)
        assert isinstance(futures, list)
        assert futures[1].result() == (1, None)
        assert len(futures) == 3

    run()


class Counted:
    """An input without end, and how far it was read."""

    def __init__(self) -> None:
        self.read = 0
        self.most_ahead = 0
        self.consumed = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.read += 1
            self.most_ahead = max(self.most_ahead, self.read - self.consumed)
            yield number


@task
def square(number: int) -> int:
    return number * number


@task
async def square_async(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


async def consume(world: World, values: Any) -> AsyncIterator[int]:
    """Iterate with ``for`` or ``async for``, as the world does."""
    if world.is_async:
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


@pytest.mark.parametrize("work", [square, square_async], ids=["sync", "async"])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as ready"])
class TestMapIter:
    """A window over inputs of any length."""

    def test_gives_every_value(self, world: World, engine: Engine, work: Any, ordered: bool) -> None:
        async def body() -> Any:
            return [value async for value in consume(world, work.map_iter(range(100), window=7, ordered=ordered))]

        got = world.run(flow(world.function(body)))
        assert sorted(got) == [n * n for n in range(100)]
        if ordered:
            assert got == sorted(got)

    def test_reads_no_further_than_its_window(self, world: World, engine: Engine, work: Any, ordered: bool) -> None:
        numbers = Counted()

        async def body() -> None:
            values = consume(world, work.map_iter(numbers, window=5, ordered=ordered))
            async for _ in values:
                numbers.consumed += 1
                if numbers.consumed == 50:
                    break
            await values.aclose()  # type: ignore[attr-defined]

        world.run(flow(world.function(body)))
        assert numbers.consumed == 50
        assert numbers.most_ahead <= 6  # the window, and the value that the consumer is looking at
        assert numbers.read <= 55


class TestMapIterEnds:
    """How such an iteration ends before its input does."""

    def test_a_consumer_that_leaves_cancels_what_is_under_way(self) -> None:
        entered: list[int] = []
        gate = threading.Event()

        @task
        def held(number: int) -> int:
            entered.append(number)
            if number:
                gate.wait(WATCHDOG)
            return number

        with penstock_test_harness(ThreadPoolTaskRunner(2)):

            @flow
            def run() -> str:
                for value in held.map_iter(itertools.count(), window=10):
                    assert value == 0
                    break
                gate.set()
                return "left"

            assert run() == "left"
        assert len(entered) <= 4, "queued items were entered after the consumer had left"

    def test_a_failure_is_raised_when_its_turn_comes(self, engine: Engine) -> None:
        @task
        def work(number: int) -> int:
            if number == 3:
                raise ValueError("three")
            return number

        @flow
        def run() -> Any:
            got = []
            try:
                for value in work.map_iter(range(10), window=4):
                    got.append(value)
            except ValueError as error:
                return got, str(error)

        assert run() == ([0, 1, 2], "three")

    def test_lengths_are_compared_at_the_end(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            got: list[Any] = []
            with pytest.raises(MappingLengthMismatch):
                got.extend(pair.map_iter([1, 2, 3], b=iter([1, 2])))
            return len(got)

        assert run() <= 2

    @pytest.mark.parametrize("inputs", [[], iter(())])
    def test_nothing_gives_nothing(self, engine: Engine, inputs: Iterable[int]) -> None:
        @flow
        def run() -> list[int]:
            return list(square.map_iter(inputs))

        assert run() == []

    def test_a_window_needs_room(self, engine: Engine) -> None:
        @flow
        def run() -> None:
            with pytest.raises(ConfigurationError, match="window=0"):
                square.map_iter([1], window=0)

        run()

    def test_works_outside_of_any_flow(self, engine: Engine) -> None:
        assert list(square.map_iter(range(5), window=2)) == [0, 1, 4, 9, 16]

    def test_ready_values_come_first_when_order_does_not_matter(self) -> None:
        gate = threading.Event()

        @task
        def work(number: int) -> int:
            if number == 0:
                assert gate.wait(WATCHDOG), "nobody consumed the others first"
            return number

        with penstock_test_harness(ThreadPoolTaskRunner(2)):

            @flow
            def run() -> list[int]:
                got = []
                for value in work.map_iter(range(10), window=5, ordered=False):
                    got.append(value)
                    if len(got) == 8:
                        gate.set()
                return got

            got = run()
        assert got[0] != 0
        assert sorted(got) == list(range(10))
