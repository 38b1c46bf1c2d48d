"""Waiting never hangs: a full pool helps itself, and runs that wait for one another are told so."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from recording import Stopwatch

from penstock import Engine, as_completed, flow, task, wait
from penstock.context import current_run
from penstock.edges import resting, stopped_loops, waiting_workers
from penstock.errors import DeadlockError, WouldBlock
from penstock.loops import LOOP_THREAD
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock.signals import Signal
from penstock.testing import wait_until


def _threads_of_pools() -> int:
    return sum(thread.name.startswith("penstock-worker") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("runner", "deep"),
    # In place, each level is on Python's one stack of a thousand frames, the engine's frames included.
    [(ThreadPoolTaskRunner(1), 50), (ThreadPoolTaskRunner(2), 50), (SequentialTaskRunner(), 25)],
)
def test_recursion_with_map_and_wait_completes_within_the_bound(runner: Any, deep: int) -> None:
    most = [0]

    @task
    def node(depth: int) -> int:
        most[0] = max(most[0], _threads_of_pools())
        if depth == 0:
            return 1
        return 1 + sum(node.map([depth - 1, 0, 0]).result())

    @flow(task_runner=runner)
    def main() -> int:
        return node.submit(deep).result()

    before = _threads_of_pools()
    assert main() == 1 + 3 * deep
    assert most[0] - before <= runner.capacity


def test_ten_thousand_pending_dependents_hold_no_thread() -> None:
    release, busy = threading.Event(), threading.Barrier(4)
    threads: list[int] = []

    @task
    def gate() -> int:
        release.wait(30)
        return 1

    @task
    def dependent(value: int, number: int) -> int:
        return value + number

    @task
    def meet() -> None:
        busy.wait(10)

    @flow(task_runner=ThreadPoolTaskRunner(5))
    def main() -> int:
        first = gate.submit()
        futures = [dependent.submit(first, number) for number in range(10_000)]
        # Four tasks that need one another at the same time prove that four threads are free.
        wait([meet.submit() for _ in range(4)], 10)
        threads.append(_threads_of_pools())
        release.set()
        return sum(future.result() for future in futures)

    before = _threads_of_pools()
    assert main() == sum(range(10_000)) + 10_000
    assert threads[0] - before <= 5


@pytest.mark.parametrize("length", [1, 2, 3])
def test_threads_that_wait_in_a_circle_are_told_so(length: int) -> None:
    futures: dict[int, Any] = {}
    ready = threading.Event()

    @task
    def waits_for(other: int) -> int:
        ready.wait(10)
        return futures[other].result()

    @flow(task_runner=ThreadPoolTaskRunner(4))
    def main() -> list[BaseException | None]:
        for number in range(length):
            futures[number] = waits_for.submit((number + 1) % length)
        ready.set()
        clock = Stopwatch()
        wait(futures.values(), 5)
        assert clock.seconds < 2
        return [future.exception(0) for future in futures.values()]

    errors = main()
    assert any(isinstance(error, DeadlockError) for error in errors)
    (deadlock,) = {str(error) for error in errors if isinstance(error, DeadlockError)}
    for number in range(length):
        assert futures[number].name in deadlock


@pytest.mark.parametrize("length", [1, 2, 3])
async def test_async_tasks_that_wait_in_a_circle_are_told_so(length: int) -> None:
    futures: dict[int, Any] = {}

    @task
    async def waits_for(other: int) -> int:
        await asyncio.sleep(0)
        return await futures[other]

    @flow
    async def main() -> list[BaseException | None]:
        for number in range(length):
            futures[number] = waits_for.submit((number + 1) % length)
        clock = Stopwatch()
        await asyncio.wait([asyncio.ensure_future(_ended(future)) for future in futures.values()], timeout=5)
        assert clock.seconds < 2
        return [future.exception() for future in futures.values()]

    errors = await main()
    assert any(isinstance(error, DeadlockError) for error in errors)


async def _ended(future: Any) -> None:
    try:
        await future
    except DeadlockError:
        pass


def test_a_task_that_waits_for_its_own_flows_child_behind_it_in_the_queue_does_it_itself() -> None:
    """Not a circle: the awaited run is merely queued, so the one worker there is executes it."""
    second: list[Any] = []
    ready = threading.Event()

    @task
    def first() -> str:
        ready.wait(10)
        return second[0].result()

    @task
    def last() -> str:
        return threading.current_thread().name

    @flow(task_runner=ThreadPoolTaskRunner(1))
    def main() -> str:
        future = first.submit()
        second.append(last.submit())
        ready.set()
        return future.result(5)

    assert main().startswith("penstock-worker")


@task
def leaf(number: int) -> int:
    return number + 1


async def one_after_the_other(numbers: list[int]) -> list[int]:
    return [await leaf.submit(number) for number in numbers]


async def together(numbers: list[int]) -> list[int]:
    return await asyncio.gather(*leaf.map(numbers))


async def in_time(numbers: list[int]) -> list[int]:
    return [await asyncio.wait_for(leaf.submit(number), 30) for number in numbers]


async def in_order_of_their_ends(numbers: list[int]) -> list[int]:
    return sorted([await future async for future in as_completed(leaf.map(numbers))])


@flow
def in_a_thread_of_its_own(numbers: list[int]) -> list[int]:
    return leaf.map(numbers).result(30)


async def by_another_thread(numbers: list[int]) -> list[int]:
    return await asyncio.to_thread(in_a_thread_of_its_own, numbers)


def _workers_have_looked() -> bool:
    """Whether each worker that waits stands still, with no bell to hear."""
    frames = [frame for frame in sys._current_frames().values() if frame.f_code.co_name == "_sleep"]
    return bool(waiting_workers) and all(frame.f_locals["self"]._bell.empty() for frame in frames)


@flow
def late_in_a_thread(numbers: list[int]) -> list[int]:
    futures = leaf.map(numbers)
    wait_until(_workers_have_looked, "the workers to see that nobody waits yet for what was queued")
    return futures.result()


async def by_another_thread_later(numbers: list[int]) -> list[int]:
    return await asyncio.to_thread(late_in_a_thread, numbers)


async def by_another_thread_in_time(numbers: list[int]) -> list[int]:
    futures = leaf.map(numbers)
    await asyncio.to_thread(wait_until, _workers_have_looked, "the workers to see that nobody waits yet")
    return await asyncio.to_thread(futures.result, 30)


@pytest.mark.parametrize("decorator", [task, flow])
@pytest.mark.parametrize(
    "wait_for_them",
    [
        one_after_the_other,
        together,
        in_time,
        in_order_of_their_ends,
        by_another_thread,
        by_another_thread_later,
        by_another_thread_in_time,
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_calls_a_coroutine_does_what_that_waits_for(
    decorator: Any, wait_for_them: Any, workers: int
) -> None:
    coroutine = decorator(wait_for_them)

    @task
    def caller(number: int) -> list[int]:
        return coroutine([number, 20, 30])  # type: ignore[no-any-return]

    @flow(timeout_seconds=20)
    def main() -> list[list[int]]:
        return caller.map([1, 2, 3]).result()

    with Engine(runner=ThreadPoolTaskRunner(workers), history=None):
        assert main() == [[2, 21, 31], [3, 21, 31], [4, 21, 31]]


@pytest.mark.parametrize("decorator", [task, flow])
@pytest.mark.parametrize("calls", ["submits", "calls"])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_what_the_loop_waits_for_that_they_wait_for(decorator: Any, calls: str, workers: int) -> None:
    """A coroutine calls a function, which holds up the loop; what it waits for is queued behind the workers."""
    begun, held = threading.Barrier(workers + 1), threading.Event()

    @task
    async def step(number: int) -> int:
        return number

    @task
    def waits_for_a_coroutine(number: int) -> int:
        begun.wait(10)
        held.wait(10)
        return step.submit(number).result() if calls == "submits" else step(number)  # type: ignore[return-value]

    @decorator
    def holds_up_the_loop() -> int:
        futures = leaf.map([1, 2, 3])
        held.set()
        return sum(futures.result())

    @task
    async def coroutine() -> int:
        begun.wait(10)
        return holds_up_the_loop()  # type: ignore[no-any-return]

    @flow(timeout_seconds=20)
    def main() -> tuple[int, list[int]]:
        waiting = waits_for_a_coroutine.map(range(workers))
        return coroutine.submit().result(), waiting.result()

    with Engine(runner=ThreadPoolTaskRunner(workers), history=None):
        assert main() == (9, list(range(workers)))


@pytest.mark.parametrize("first", ["the worker", "the function"])
def test_a_circle_over_a_loop_that_is_held_up_is_told(first: str) -> None:
    """A coroutine calls a function that waits for a worker, which waits for a coroutine of the same loop."""
    held = threading.Event()
    worker: list[Any] = []

    @task
    async def step() -> None: ...

    @task
    def waits_for_a_coroutine() -> None:
        held.wait(10)
        future = step.submit()
        if first == "the function":
            wait_until(lambda: bool(stopped_loops), "the function to wait")
        future.result()

    @task
    def holds_up_the_loop() -> None:
        held.set()
        if first == "the worker":
            wait_until(lambda: worker[0].run.waiting_on is not None, "the worker to wait")
        worker[0].result()

    @task
    async def coroutine() -> None:
        holds_up_the_loop()

    @flow(timeout_seconds=20)
    def main() -> list[BaseException | None]:
        worker.append(waits_for_a_coroutine.submit())
        return [coroutine.submit().exception(), worker[0].exception()]

    with Engine(runner=ThreadPoolTaskRunner(1), history=None):
        errors = main()
    assert any(isinstance(error, DeadlockError) for error in errors), errors


def test_a_flow_may_wait_on_several_threads() -> None:
    """What it rests on is noted by all of them at once."""

    @flow
    def main() -> None:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(100):
                waiting = [pool.submit(copy_context().run, leaf.submit(n).result) for n in range(20)]
                assert [one.result() for one in waiting] == list(range(1, 21))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        main()
    finally:
        sys.setswitchinterval(before)


def test_a_worker_that_waits_for_thousands_of_runs_leaves_the_others_in_peace() -> None:
    """Each wait in the process makes it look again whether there is something to do among what it waits for."""
    release = asyncio.Event()

    @task
    async def held() -> None:
        await release.wait()

    @task
    def wait_for_many(_: int) -> None:
        wait([held.submit() for _ in range(2000)])

    @task
    async def step() -> None: ...

    @flow
    async def steps() -> float:
        watch = Stopwatch()
        for _ in range(300):
            await step.submit()
        return watch.busy

    @flow
    def waiting() -> None:
        wait_for_many.map(range(3)).wait()

    with Engine(runner=ThreadPoolTaskRunner(3), history=None) as engine:
        alone = min(asyncio.run(steps()) for _ in range(3))
        waiter = engine.start(waiting)
        wait_until(lambda: len(waiter.run.inside()) == 6003, "the workers to wait")
        beside = min(asyncio.run(steps()) for _ in range(3))
        LOOP_THREAD.loop.call_soon_threadsafe(release.set)
        waiter.result()
    assert beside < 15 * alone


def test_what_resting_costs_does_not_grow_with_what_rests() -> None:
    """A coroutine gathers a hundred thousand futures; noting that it waits for each took the square of that."""

    @flow
    def main(size: int) -> float:
        run = current_run.get()
        rests = [resting(run, Signal()) for _ in range(size)]
        watch = Stopwatch()
        for rest in rests:
            rest.__enter__()
        assert run is not None
        assert len(run.rests_on) == size
        for rest in rests:
            rest.__exit__()
        assert not run.rests_on
        return watch.busy / size

    few = min(main(500) for _ in range(5))
    assert min(main(20_000) for _ in range(3)) < 8 * few


async def test_blocking_in_a_coroutine_is_refused_with_the_way_out() -> None:
    @task
    async def slow() -> None:
        await asyncio.sleep(0)

    @flow
    async def main() -> None:
        future = slow.submit()
        with pytest.raises(WouldBlock, match="await future"):
            future.result()
        with pytest.raises(WouldBlock, match="await"):
            wait([future])
        await future

    await main()


@pytest.mark.parametrize("how", ["wait", "results", "as_completed"])
def test_a_task_that_waits_for_a_list_with_itself_in_it_is_told_so(how: str) -> None:
    from penstock import as_completed
    from penstock.futures import FutureList

    futures: list[Any] = []
    ready = threading.Event()

    @task
    def waits_for_all() -> None:
        ready.wait(10)
        if how == "wait":
            wait(futures)
        elif how == "results":
            FutureList(futures).result()
        else:
            list(as_completed(futures))

    @task
    def brief() -> None:
        pass

    @flow(task_runner=ThreadPoolTaskRunner(2))
    def main() -> BaseException | None:
        futures.extend([brief.submit(), waits_for_all.submit()])
        ready.set()
        return futures[1].exception(2)

    assert isinstance(main(), DeadlockError)
