"""Flow runs that failed or were cancelled go on: in one process, against a real file."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from interrupted import World, ended, failed, inside, make_pipeline, newest, records

from penstock import Engine, flow, task
from penstock.errors import ResumeConflict
from penstock.history import resume
from penstock.testing import wait_until


def test_only_what_had_not_completed_runs_again(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"load 2", "clean 4"}
    first = failed(lambda: pipeline(0), engine)
    world.since()
    world.broken = set()

    assert resume(first) == 100
    assert world.since() == ["clean 3", "clean 4", "load 2"]
    second, old = records(engine)
    assert (old.type, second.type) == ("FAILED", "COMPLETED")
    assert (old.resumed_by, second.resumes) == (second.id, old.id)
    assert second.parameters == old.parameters == '{"start":0}'
    states = inside(engine, second.id)
    assert states.count(("load", "Cached")) == 3
    assert states.count(("clean", "Cached")) == 2
    assert len(states) == 8


def test_a_cached_run_is_recorded_with_the_same_reference(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"clean 4"}
    first = failed(lambda: pipeline(0), engine)
    world.broken = set()
    resume(first)
    assert engine.history is not None
    results = [
        {str(record.result) for record in engine.history.inside(record.id) if record.definition == "load"}
        for record in records(engine)
    ]
    assert results[0] == results[1]
    assert len(results[0]) == 4


def test_the_chain_is_continued_at_its_end_whichever_run_is_named(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"load 1", "load 2", "clean 1"}
    first = failed(lambda: pipeline(0), engine)
    world.broken -= {"load 1"}
    failed(lambda: resume(first), engine)
    world.broken -= {"load 2"}
    third = failed(lambda: resume(first), engine)
    world.since()
    world.broken = set()

    assert resume(first) == 100
    assert world.since() == ["clean 1"]
    chain = records(engine)
    assert [record.resumes for record in chain] == [record.id for record in chain[1:]] + [None]
    with pytest.raises(ResumeConflict, match=f"resumed before.*{chain[0].id} has completed"):
        resume(third)


def test_a_cancelled_run_goes_on(world: World, engine: Engine) -> None:
    begun = threading.Event()
    go_on = threading.Event()

    @task
    def quick() -> int:
        world.enter("quick")
        return 1

    @task
    def slow() -> int:
        world.enter("slow")
        begun.set()
        assert go_on.wait(20)
        return 2

    @flow(persist_result=True)
    def pipeline() -> int:
        return quick() + slow.submit().result()

    future = engine.start(pipeline)
    assert begun.wait(20)
    future.cancel()
    go_on.set()
    assert ended(future).is_cancelled()
    assert resume(newest(engine)) == 3
    assert world.since() == ["quick", "slow", "slow"]


def test_an_async_flow_goes_on_on_the_loop_of_whoever_awaits_it(world: World, engine: Engine) -> None:
    loops: list[Any] = []

    @task
    async def double(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        world.enter(n)
        return 2 * n

    @flow(persist_result=True)
    async def pipeline(count: int) -> int:
        outcomes = await asyncio.gather(*(double(n) for n in range(count)), return_exceptions=True)
        return sum(outcomes)

    world.broken = {3}
    first = failed(lambda: asyncio.run(pipeline(5)), engine)
    world.since()
    world.broken = set()

    async def main() -> None:
        assert await resume(first) == 20
        assert loops[-1] is asyncio.get_running_loop()

    asyncio.run(main())
    assert world.since() == [3]


def test_an_async_flow_goes_on_without_a_loop(world: World, engine: Engine) -> None:
    @flow
    async def pipeline() -> str:
        world.enter("it")
        return "done"

    world.broken = {"it"}
    first = failed(lambda: asyncio.run(pipeline()), engine)
    world.broken = set()
    assert resume(first) == "done"


def test_a_synchronous_flow_does_not_block_the_loop(world: World, engine: Engine) -> None:
    turned = threading.Event()

    @flow
    def pipeline() -> str:
        world.enter("it")
        assert turned.wait(20), "the loop stands still"
        return "done"

    world.broken = {"it"}
    first = failed(pipeline, engine)
    world.broken = set()

    async def main() -> str:
        asyncio.get_running_loop().call_later(0.05, turned.set)
        return str(await resume(first))

    assert asyncio.run(main()) == "done"


def test_cancelling_whoever_awaits_cancels_the_run(world: World, engine: Engine) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @flow
    def pipeline() -> None:
        world.enter("it")
        begun.set()
        assert go_on.wait(20)
        nothing()
        world.enter("past it")

    @task
    def nothing() -> None:
        pass

    world.broken = {"it"}
    first = failed(pipeline, engine)
    world.broken = set()

    async def main() -> None:
        resuming = asyncio.ensure_future(resume(first))
        await asyncio.to_thread(begun.wait, 20)
        resuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await resuming
        go_on.set()

    asyncio.run(main())
    wait_until(lambda: records(engine)[0].ended is not None, "the run to end")
    assert records(engine)[0].type == "CANCELLED"
    assert world.since() == ["it", "it"]


def test_a_subflow_with_a_stored_value_is_not_entered_again(world: World, engine: Engine) -> None:
    @task
    def step(n: int) -> int:
        world.enter(f"step {n}")
        return n

    @flow
    def below(n: int) -> int:
        world.enter(f"below {n}")
        return step(n) + step(n + 1)

    @flow(persist_result=True)
    def above() -> int:
        return below(1) + below(10)

    world.broken = {"step 11"}
    first = failed(above, engine)
    world.since()
    world.broken = set()
    assert resume(first) == 24
    assert world.since() == ["below 10", "step 11"]


def test_tasks_in_a_task_that_was_interrupted_are_not_executed_again(world: World, engine: Engine) -> None:
    @task
    def inner(n: int) -> int:
        world.enter(n)
        return n

    @task
    def outer() -> int:
        return inner(1) + inner(2) + inner(3)

    @flow(persist_result=True)
    def pipeline() -> int:
        return outer()

    world.broken = {3}
    first = failed(pipeline, engine)
    world.since()
    world.broken = set()
    assert resume(first) == 6
    assert world.since() == [3]
