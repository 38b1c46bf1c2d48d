"""A timeout is kept: the caller hears of it on time, and what cannot be stopped stays in sight until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from recording import Stopwatch, Tally

from penstock import Engine, flow, runtime, task
from penstock.errors import Cancelled, TimedOut
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock.testing import VirtualClock

SOON = 0.1
LATE = 0.6
"""Half a second after the deadline is what callers are promised."""


async def test_an_async_task_is_stopped_where_it_awaits() -> None:
    cleaned: list[str] = []

    @task(timeout_seconds=SOON)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("finally")

    @flow
    async def main() -> None:
        for start in (slow, slow.submit):
            clock = Stopwatch()
            with pytest.raises(TimedOut, match=r"exceeded its timeout of 0.1 second"):
                await start()
            assert SOON <= clock.seconds < LATE
        state = await _state(slow)
        assert (state.name, state.is_failed()) == ("TimedOut", True)

    await main()
    assert cleaned == ["finally"] * 3
    task_now = asyncio.current_task()
    assert task_now is not None
    assert task_now.cancelling() == 0


async def _state(slow: Any) -> Any:
    return await slow(return_state=True)


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner(2), SequentialTaskRunner()])
def test_the_caller_of_a_thread_is_told_on_time_and_the_thread_stays_in_the_ledger(runner: Any) -> None:
    release, tally = threading.Event(), Tally()

    @task(timeout_seconds=SOON)
    def slow() -> None:
        release.wait(30)
        tally.add("ended")

    @flow(task_runner=runner)
    def main() -> None:
        clock = Stopwatch()
        with pytest.raises(TimedOut):
            slow.submit().result()
        assert SOON <= clock.seconds < LATE
        (entry,) = runtime.overdue()
        assert entry.run.startswith("slow")
        assert any(thread.name == entry.thread for thread in threading.enumerate())
        release.set()
        tally.wait_for("ended", 1)

    main()
    _wait_for_an_empty_ledger()


def _wait_for_an_empty_ledger() -> None:
    for thread in threading.enumerate():
        if thread.name in {entry.thread for entry in runtime.overdue()}:
            thread.join(5)
    assert runtime.overdue() == []


def test_an_overdue_thread_counts_against_the_capacity_until_it_ends() -> None:
    release, tally = threading.Event(), Tally()

    @task(timeout_seconds=SOON)
    def slow() -> None:
        release.wait(30)

    @task
    def next_one() -> str:
        tally.add("next")
        return "ran"

    @flow(task_runner=ThreadPoolTaskRunner(1))
    def main() -> str:
        with pytest.raises(TimedOut):
            slow.submit().result()
        waiting = next_one.submit()
        waiting.wait(SOON)
        assert tally.counts["next"] == 0
        release.set()
        return waiting.result(5)

    assert main() == "ran"


def test_a_sync_task_called_directly_is_left_behind_on_time() -> None:
    release = threading.Event()

    @task(timeout_seconds=SOON)
    def slow() -> None:
        release.wait(30)

    clock = Stopwatch()
    with pytest.raises(TimedOut):
        slow()
    assert SOON <= clock.seconds < LATE
    assert len(runtime.overdue()) == 1
    release.set()
    _wait_for_an_empty_ledger()


@pytest.mark.parametrize("decorator", [flow, task])
def test_a_generator_is_stopped_at_the_item_that_comes_too_late(decorator: Any) -> None:
    """Nothing stops it where it stands; but it does not get away with it either."""
    clock = VirtualClock()
    ends: list[str] = []

    @decorator(timeout_seconds=60, on_failure=[lambda _, __, state: ends.append(state.name)])
    def numbers(slow: int) -> Iterator[int]:
        try:
            for number in range(3):
                clock.advance(61 if number == slow else 1)
                yield number
            clock.advance(61 if slow == 3 else 1)
        finally:
            ends.append("finally")

    @flow
    def run(slow: int) -> list[int]:
        got: list[int] = []
        with contextlib.suppress(TimedOut):
            got.extend(numbers(slow))
        return got

    with Engine(clock=clock, history=None):
        assert (run(4), ends) == ([0, 1, 2], ["finally"])
        for slow in (1, 3):
            ends.clear()
            assert (run(slow), ends) == ([0, 1, 2][:slow], ["finally", "TimedOut"])
        assert numbers(1, return_state=True).name == "TimedOut"


def test_a_sync_flow_that_timed_out_can_start_nothing_any_more() -> None:
    release, tally = threading.Event(), Tally()

    @task
    def child() -> None:
        tally.add("child")

    @flow(timeout_seconds=SOON)
    def main() -> None:
        child()
        release.wait(30)
        for start in (child, child.submit):
            try:
                start()
            except Cancelled:
                tally.add("refused")

    clock = Stopwatch()
    with pytest.raises(TimedOut):
        main()
    assert SOON <= clock.seconds < LATE
    assert len(runtime.overdue()) == 1
    release.set()
    _wait_for_an_empty_ledger()
    assert tally.counts == {"child": 1, "refused": 2}


def test_an_attempt_that_timed_out_can_start_nothing_while_the_next_attempt_runs() -> None:
    tally, first_may_go_on, second_may_end = Tally(), threading.Event(), threading.Event()

    @task
    def child() -> None:
        tally.add("child")

    def body() -> str:
        if runtime_attempt() == 1:
            first_may_go_on.wait(30)
            try:
                child()
            except Cancelled:
                tally.add("refused")
            second_may_end.set()
            return "too late"
        first_may_go_on.set()
        second_may_end.wait(5)
        child()
        return "second"

    as_flow = flow(timeout_seconds=1, retries=1)(body)
    assert as_flow() == "second"
    assert tally.counts == {"child": 1, "refused": 1}


def runtime_attempt() -> int:
    return runtime.flow_run.run_count


async def test_an_async_flow_that_times_out_stops_its_children() -> None:
    cleaned: list[str] = []

    @task
    async def child() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("child")

    @flow(timeout_seconds=SOON)
    async def main() -> None:
        futures = [child.submit() for _ in range(3)]
        await futures[0]

    clock = Stopwatch()
    with pytest.raises(TimedOut, match="Flow run"):
        await main()
    assert SOON <= clock.seconds < LATE
    assert cleaned == ["child"] * 3


async def test_a_timeout_inside_a_cancelled_scope_leaves_the_scopes_own_bookkeeping_right() -> None:
    @flow(timeout_seconds=30)
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.02):
            await main()
    assert not isinstance(caught.value, TimedOut)


def test_timeouts_that_race_with_completion_lose_no_thread_and_hit_nobody_else() -> None:
    chance = random.Random(7)
    names: list[str] = []

    @task(timeout_seconds=0.002)
    def racer(pause: float) -> str:
        threading.Event().wait(pause)
        return "done"

    @task
    def bystander() -> str:
        return threading.current_thread().name

    @flow(task_runner=ThreadPoolTaskRunner(4))
    def main() -> set[str]:
        for _ in range(10):
            futures = [racer.submit(chance.uniform(0.001, 0.003)) for _ in range(100)]
            others = [bystander.submit() for _ in range(100)]
            names.extend(future.state.name for future in futures if future.wait(10) is None)
            assert all(future.result(10) for future in others)
        together = threading.Barrier(4)

        @task
        def meet() -> str:
            together.wait(5)
            return threading.current_thread().name

        return {future.result(10) for future in [meet.submit() for _ in range(4)]}

    workers = main()
    assert len(workers) == 4, "all four threads are still there"
    assert set(names) == {"Completed", "TimedOut"}, "the race was close"
    assert len(names) == 1_000
    _wait_for_an_empty_ledger()


@pytest.mark.parametrize(
    ("ending", "name"),
    [
        (SystemExit(3), "Crashed"),
        (KeyboardInterrupt(), "Cancelled"),
        (GeneratorExit(), "Cancelled"),
        (StopIteration(), "Failed"),
        (asyncio.CancelledError(), "Cancelled"),
    ],
)
@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner(1), SequentialTaskRunner()])
def test_what_is_no_ordinary_exception_ends_a_submitted_run_under_a_name(
    runner: Any, ending: BaseException, name: str
) -> None:
    @task
    def raises() -> None:
        raise ending

    @task
    async def raises_async() -> None:
        raise ending

    @task
    def fine() -> int:
        return 1

    @task
    async def fine_async() -> int:
        return 1

    @flow(task_runner=runner)
    def main() -> list[str]:
        # In a thread: in the main one KeyboardInterrupt is Ctrl-C, which no run may keep to itself.
        futures: list[Any] = [raises.submit(), raises_async.submit()]
        for future in futures:
            future.wait(5)
        # Neither the worker nor the loop was lost.
        assert (fine.submit().result(5), fine_async.submit().result(5)) == (1, 1)
        return [future.state.name for future in futures]

    with Engine() as engine:
        assert engine.start(main).result(10) == [name, name]


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt()])
def test_an_async_task_called_from_a_sync_flow_ends_the_flow_and_not_the_engines_loop(ending: BaseException) -> None:
    @task
    async def raises() -> None:
        raise ending

    @task
    async def fine() -> int:
        return 1

    @flow
    def main() -> None:
        raises()

    @flow
    def after() -> int:
        return fine()  # type: ignore[return-value]

    with Engine() as engine:
        handle = engine.start(after)
        with pytest.raises(type(ending)):
            main()
        assert handle.result(5) == 1
        assert after() == 1
