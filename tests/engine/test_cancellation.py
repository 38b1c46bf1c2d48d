"""Cancel is a fence: nothing starts after it, everything under it ends, clean-up runs, and nobody swallows it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from recording import Recorder, Stopwatch, Tally

from penstock import Engine, flow, quote, runtime, task, wait
from penstock.engine import engine_in_use
from penstock.errors import Cancelled, CancelledRun, RunnerError
from penstock.ports import Clock
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner

QUEUED = 10_000
WATCHDOG = 5.0


# --- four running, ten thousand queued, two subflows ----------------------------------------------------------------


def test_cancelling_a_flow_on_threads_fences_it_in() -> None:
    tally, release, recorder = Tally(), threading.Event(), Recorder()

    @task
    def blocker() -> None:
        tally.add("started")
        try:
            release.wait(30)
        finally:
            tally.add("finally")

    @task
    def queued(number: int) -> int:
        tally.add("started")
        return number

    @flow
    def subflow(first: Any) -> None:
        try:
            wait(queued.map(range(10), wait_for=[first]))
        finally:
            tally.add("subflow finally")

    @task
    def nested(first: Any) -> None:
        tally.add("started")
        subflow(quote(first))

    @flow
    def main() -> None:
        blockers = [blocker.submit() for _ in range(4)]
        outer = [*blockers, nested.submit(quote(blockers[0])), nested.submit(quote(blockers[0]))]
        try:
            tally.wait_for("started", 6)
            futures = queued.map(range(QUEUED))
            tally.add("queued")
            wait([*outer, *futures])
        finally:
            tally.add("flow finally")

    # Six workers: the four blockers and the two subflows' tasks keep all of them, so whatever else runs is a leak.
    with Engine(ThreadPoolTaskRunner(6), sinks=[recorder]) as engine:
        handle = engine.start(main)
        tally.wait_for("queued", 1)
        clock = Stopwatch()
        assert handle.cancel() is True
        started = tally.counts["started"]
        handle.wait(20)
        assert handle.done
        assert recorder.wait_until(lambda: len(recorder.states) >= QUEUED + 29 and recorder.all_ended(), 20)
        assert clock.busy < 2
        assert {entry.run.split("-")[0] for entry in runtime.overdue()} == {"blocker"}
        release.set()
        tally.wait_for("finally", 4)
        tally.wait_for("subflow finally", 2)
        tally.wait_for("flow finally", 1)
    assert tally.counts["started"] == started
    assert runtime.overdue() == []
    assert recorder.ends() == {"Cancelled": QUEUED + 6 + 2 + 20 + 1}
    assert recorder.endings_per_run() == {1}
    with pytest.raises(CancelledRun, match="cancelled through its future"):
        handle.result()


async def test_cancelling_an_async_flow_fences_it_in() -> None:
    tally, recorder = Tally(), Recorder()

    @task
    async def blocker() -> None:
        tally.add("started")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tally.add("finally")

    @task
    async def queued(number: int) -> int:
        tally.add("started")
        return number

    @flow
    async def subflow(first: Any) -> None:
        try:
            for future in queued.map(range(10), wait_for=[first]):
                await future
        finally:
            tally.add("subflow finally")

    @flow
    async def main() -> None:
        first, *others = [blocker.submit() for _ in range(4)]
        futures = queued.map(range(QUEUED), wait_for=[first])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(subflow(quote(first)))
                group.create_task(subflow(quote(first)))
                await asyncio.gather(*others, *futures)
        finally:
            tally.add("flow finally")

    async with Engine(sinks=[recorder]) as engine:
        handle = engine.start(main)
        while tally.counts["started"] < 4:
            await asyncio.sleep(0)
        clock = Stopwatch()
        assert handle.cancel() is True
        with pytest.raises(CancelledRun):
            await handle
        assert clock.busy < 2
    assert tally.counts == {"started": 4, "finally": 4, "subflow finally": 2, "flow finally": 1}
    assert recorder.ends() == {"Cancelled": QUEUED + 4 + 2 + 20 + 1}
    assert recorder.endings_per_run() == {1}


def test_cancelling_a_flow_on_the_sequential_runner_stops_it_at_the_next_start() -> None:
    tally, go, recorder = Tally(), threading.Event(), Recorder()

    @task
    def step(number: int) -> int:
        tally.add("started")
        go.wait(30)
        tally.add("ended")
        return number

    @flow(task_runner=SequentialTaskRunner)
    def subflow() -> None:
        try:
            step.map(range(QUEUED))
        finally:
            tally.add("subflow finally")

    @flow(task_runner=SequentialTaskRunner)
    def main() -> None:
        subflow()

    with Engine(sinks=[recorder]) as engine:
        handle = engine.start(main)
        tally.wait_for("started", 1)
        clock = Stopwatch()
        handle.cancel()
        go.set()
        handle.wait(2)
        assert handle.done
        assert clock.busy < 2
    assert tally.counts == {"started": 1, "ended": 1, "subflow finally": 1}
    assert recorder.all_ended()
    assert handle.state.is_cancelled()


async def test_cancelling_async_tasks_on_the_sequential_runner_starts_none_of_those_queued() -> None:
    tally, recorder = Tally(), Recorder()

    @task
    async def step(number: int) -> int:
        tally.add("started")
        try:
            await asyncio.Event().wait()
        finally:
            tally.add("finally")
        return number

    @flow(task_runner=SequentialTaskRunner)
    async def main() -> None:
        await step.map(range(QUEUED))

    async with Engine(sinks=[recorder]) as engine:
        handle = engine.start(main)
        while tally.counts["started"] < 1:
            await asyncio.sleep(0)
        clock = Stopwatch()
        handle.cancel()
        with pytest.raises(CancelledRun):
            await handle
        assert clock.busy < 2
    assert tally.counts == {"started": 1, "finally": 1}
    assert recorder.ends() == {"Cancelled": QUEUED + 1}


# --- the ways to say it ---------------------------------------------------------------------------------------------


async def _as_asyncio_task(flow_call: Callable[[], Any], begun: asyncio.Event) -> None:
    running = asyncio.ensure_future(flow_call())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def _in_asyncio_timeout(flow_call: Callable[[], Any], begun: asyncio.Event) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as scope:
            asyncio.get_running_loop().create_task(_reschedule(scope, begun))
            await flow_call()


async def _reschedule(scope: asyncio.Timeout, begun: asyncio.Event) -> None:
    await begun.wait()
    scope.reschedule(asyncio.get_running_loop().time())


async def _in_anyio_scope(flow_call: Callable[[], Any], begun: asyncio.Event) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(flow_call)
        await begun.wait()
        group.cancel_scope.cancel()


async def _in_task_group(flow_call: Callable[[], Any], begun: asyncio.Event) -> None:
    async def fail() -> None:
        await begun.wait()
        raise ValueError("a sibling failed")

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        async with asyncio.TaskGroup() as group:
            group.create_task(flow_call())
            group.create_task(fail())


@pytest.mark.parametrize("scope", [_as_asyncio_task, _in_asyncio_timeout, _in_anyio_scope, _in_task_group])
async def test_cancelling_the_host_scope_cancels_the_flow_and_lets_it_clean_up(scope: Any) -> None:
    begun, cleaned, recorder = asyncio.Event(), list[str](), Recorder()

    @task
    async def child() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append("child")

    @flow
    async def inner() -> None:
        try:
            await child.submit()
        finally:
            cleaned.append("inner")

    @flow
    async def main() -> None:
        try:
            await inner()
        finally:
            cleaned.append("main")

    @main.on_cancellation
    async def hook(*_: Any) -> None:
        await asyncio.sleep(0.01)
        cleaned.append("hook")

    async with Engine(sinks=[recorder]):
        await scope(main, begun)
        # The flow has ended, with everything in it, before the scope let go.
        assert cleaned == ["inner", "child", "main", "hook"] or cleaned == ["child", "inner", "main", "hook"]
    assert recorder.ends() == {"Cancelled": 3}


class Opening(ThreadPoolTaskRunner):
    """Takes until it is told to become open; says what it was asked."""

    began, may_open, closed = threading.Event(), threading.Event(), threading.Event()

    def open(self, clock: Clock) -> None:
        self.began.set()
        assert self.may_open.wait(30)
        super().open(clock)

    def close(self, grace: float) -> None:
        assert self.is_open, "not while it is being opened"
        super().close(grace)
        self.closed.set()


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> type[Opening]:
    for name in ("began", "may_open", "closed"):
        monkeypatch.setattr(Opening, name, threading.Event())
    return Opening


async def test_a_flow_that_is_cancelled_while_its_runner_opens_leaves_no_open_runner(opening: type[Opening]) -> None:
    @flow(task_runner=opening(max_workers=1))
    async def main() -> None:
        raise AssertionError("was cancelled before")

    running = asyncio.create_task(main())
    assert await asyncio.to_thread(opening.began.wait, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running  # at once: nobody has to wait for a cluster that nobody wants
    opening.may_open.set()
    assert await asyncio.to_thread(opening.closed.wait, 30)


async def test_an_engine_that_is_cancelled_while_its_runner_opens_leaves_no_open_runner(opening: type[Opening]) -> None:
    async def serve() -> None:
        async with Engine(opening(max_workers=1)):
            raise AssertionError("was cancelled before")

    serving = asyncio.create_task(serve())
    assert await asyncio.to_thread(opening.began.wait, 30)
    serving.cancel()
    opening.may_open.set()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert opening.closed.is_set()


async def test_a_loop_turns_while_the_runner_of_its_engine_opens(opening: type[Opening]) -> None:
    asyncio.get_running_loop().call_later(0.01, opening.may_open.set)
    async with Engine(opening(max_workers=1)):
        assert opening.may_open.is_set()


def test_a_runner_that_cannot_be_opened_is_told_where_the_engine_is_entered() -> None:
    class Broken(ThreadPoolTaskRunner):
        def open(self, clock: Clock) -> None:
            raise RunnerError("no cluster there")

    with pytest.raises(RunnerError, match="no cluster there"), Engine(Broken()):
        raise AssertionError("was not entered")

    with Engine() as engine:
        assert flow(lambda: runtime.flow_run.id is not None)() is True
        assert engine is engine_in_use(), "and nothing is left of the one that failed"


async def test_a_cancelled_future_stops_its_run_and_nothing_else() -> None:
    @task
    async def forever() -> None:
        await asyncio.Event().wait()

    @task
    async def brief() -> str:
        return "fine"

    @flow
    async def main() -> str:
        doomed, fine = forever.submit(), brief.submit()
        await fine
        assert doomed.cancel() is True
        with pytest.raises(CancelledRun):
            await doomed
        assert doomed.cancelled()
        assert doomed.cancel() is False
        return await fine

    assert await main() == "fine"


async def test_a_run_can_be_cancelled_from_another_thread() -> None:
    runs: list[Any] = []
    begun = asyncio.Event()

    @flow
    async def main() -> None:
        runs.append(runtime_run())
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(main())
    await begun.wait()
    assert await asyncio.to_thread(runs[0].cancel) is True
    # Whoever awaits the flow was not cancelled: for them the flow's end is an error like any other.
    with pytest.raises(CancelledRun, match="cancelled by request"):
        await running
    assert runs[0].state.is_cancelled()


def runtime_run() -> Any:
    from penstock.context import current_run

    return current_run.get()


async def test_a_task_that_is_cancelled_before_its_first_step_still_ends() -> None:
    entered: list[int] = []

    @task
    async def never(number: int) -> None:
        entered.append(number)

    @flow
    async def main() -> list[bool]:
        futures = never.map(range(3))
        for future in futures:
            future.cancel()
        for future in futures:
            with pytest.raises(CancelledRun):
                await asyncio.wait_for(_value(future), 2)
        return [future.cancelled() for future in futures]

    assert await main() == [True, True, True]
    assert entered == []


async def _value(future: Any) -> Any:
    return await future


def test_a_blocked_synchronous_flow_is_cancelled_where_it_waits() -> None:
    tally, release = Tally(), threading.Event()

    @task
    def blocker() -> None:
        tally.add("started")
        release.wait(30)

    @flow
    def main() -> None:
        future = blocker.submit()
        try:
            future.result()
        except Exception:
            tally.add("swallowed")
        except Cancelled:
            tally.add("cancelled")
            raise

    with Engine(ThreadPoolTaskRunner(1)) as engine:
        handle = engine.start(main)
        tally.wait_for("started", 1)
        handle.cancel()
        handle.wait(2)
        assert handle.done
        release.set()
    assert handle.state.is_cancelled()
    assert tally.counts == {"started": 1, "cancelled": 1}


def test_a_cancelled_flow_does_not_try_again_and_does_not_complete() -> None:
    """Its children end as cancelled, which its function may see as an ordinary error: that changes nothing."""
    tally, release = Tally(), threading.Event()

    @task
    def blocker() -> None:
        tally.add("started")
        release.wait(30)

    @flow(retries=3)
    def fails() -> None:
        tally.add("attempt")
        future = blocker.submit()
        while not future.done:
            release.wait(0.001)
        future.result()

    @flow
    def returns() -> str:
        tally.add("attempt")
        future = blocker.submit()
        while not future.done:
            release.wait(0.001)
        return "as if nothing had happened"

    for main in (fails, returns):
        tally.counts.clear()
        release.clear()
        with Engine(ThreadPoolTaskRunner(1)) as engine:
            handle = engine.start(main)
            tally.wait_for("started", 1)
            handle.cancel()
            handle.wait(5)
            release.set()
        assert handle.state.is_cancelled(), handle.state
        assert tally.counts["attempt"] == 1


async def test_a_coroutine_that_ignores_its_cancellation_can_start_nothing() -> None:
    entered: list[str] = []
    begun = asyncio.Event()

    @task
    async def late() -> None:
        entered.append("task")

    @flow
    async def late_flow() -> None:
        entered.append("flow")

    @flow
    async def main() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        for start in (late, late_flow, late.submit):
            try:
                await start()
            except BaseException as error:
                entered.append(type(error).__name__)

    async with Engine() as engine:
        handle = engine.start(main)
        await begun.wait()
        handle.cancel()
        with pytest.raises(CancelledRun):
            await handle
    assert not {"task", "flow"} & set(entered)
    assert len(entered) == 3


def test_a_long_chain_of_dependents_ends_when_its_first_link_fails_or_is_cancelled() -> None:
    links, release = 3_000, threading.Event()

    @task
    def link(previous: Any) -> Any:
        release.wait(30)
        if previous == "fail":
            raise ValueError("the first link broke")
        return previous

    @flow(on_unfinished="detach")
    def main(how: str) -> list[Any]:
        chain = [link.submit(how)]
        while len(chain) < links:
            chain.append(link.submit(chain[-1]))
        if how == "cancel":
            assert chain[0].cancel()
        else:
            release.set()
        wait(chain, 10)
        return [future.state.name for future in chain]

    for how, first in (("fail", "Failed"), ("cancel", "Cancelled")):
        release.clear()
        names = main(how)
        release.set()
        assert names == [first] + ["UpstreamFailed"] * (links - 1)


# --- races ----------------------------------------------------------------------------------------------------------


def test_races_of_cancel_completion_and_timeout_on_threads_end_in_exactly_one_state() -> None:
    """Three things happen to each run at about the same moment: who comes first is up to the scheduler."""
    chance, recorder = random.Random(20), Recorder()
    gates = [threading.Event() for _ in range(500)]

    @task(timeout_seconds=0.02)
    def racer(number: int) -> int:
        gates[number].wait(10)
        return number

    with Engine(ThreadPoolTaskRunner(4), sinks=[recorder]):

        @flow
        def main() -> list[Any]:
            futures = []
            for number, gate in enumerate(gates):
                future = racer.submit(number)
                futures.append(future)
                order: list[Callable[[], Any]] = [gate.set, future.cancel]
                chance.shuffle(order)
                gate.wait(chance.choice([0.0, 0.0, 0.0, 0.0195, 0.021]) if chance.random() < 0.3 else 0)
                for act in order:
                    act()
            wait(futures, 10)
            return [future.state.name for future in futures]

        names = main()
    assert set(names) <= {"Completed", "Cancelled", "TimedOut"}
    assert len(set(names)) >= 2, "the race was never close"
    assert recorder.endings_per_run() == {1}
    assert runtime.overdue() == []


@pytest.mark.parametrize("seed", range(5))
async def test_races_of_cancel_completion_and_timeout_on_a_loop_end_in_exactly_one_state(seed: int) -> None:
    chance, recorder = random.Random(seed), Recorder()

    @task(timeout_seconds=0.01)
    async def racer(steps: int) -> int:
        for _ in range(steps):
            await asyncio.sleep(0)
        if steps > 7:
            await asyncio.sleep(0.0095)
        return steps

    @flow
    async def main() -> list[str]:
        names = []
        for _ in range(100):
            future = racer.submit(chance.randrange(10))
            for _ in range(chance.randrange(10)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.sleep(0.01)
            future.cancel()
            await asyncio.wait([asyncio.ensure_future(_outcome(future))])
            names.append(future.state.name)
        return names

    async with Engine(sinks=[recorder]):
        names = await main()
    assert set(names) <= {"Completed", "Cancelled", "TimedOut"}
    assert len(set(names)) >= 2, "the race was never close"
    assert recorder.endings_per_run() == {1}


async def _outcome(future: Any) -> None:
    try:
        await future
    except (CancelledRun, TimeoutError):
        pass


def test_a_run_that_is_cancelled_in_its_hook_does_not_begin() -> None:
    begun, entered = threading.Event(), threading.Event()

    async def hook(*_: object) -> None:
        begun.set()
        await asyncio.sleep(WATCHDOG)

    @task(on_running=[hook])
    def work() -> None:
        entered.set()

    @flow
    def main() -> str:
        future = work.submit()
        assert begun.wait(WATCHDOG)
        future.cancel()
        future.wait()
        return future.state.name

    with Engine(ThreadPoolTaskRunner(1)):
        assert main() == "Cancelled"
    assert not entered.is_set()


async def test_a_host_cancellation_at_the_same_moment_as_the_runs_own_is_not_swallowed() -> None:
    begun = asyncio.Event()

    @flow
    async def main() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with Engine() as engine:
        running = asyncio.ensure_future(main())
        await begun.wait()
        (run,) = engine.live
        run.cancel()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert run.state is not None
        assert run.state.is_cancelled()
