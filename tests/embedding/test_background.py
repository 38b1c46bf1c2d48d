"""Flows that go on behind a service: what is told of their failures, and what they get when the service stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock import Engine, flow, resume, task
from penstock.errors import EngineClosed
from penstock.futures import wait_async
from penstock.history import History
from penstock.runners import ThreadPoolTaskRunner


@task
def divide(number: int) -> float:
    return 1 / number


@flow
async def divided(number: int) -> float:
    return await divide.submit(number)


async def test_a_started_flow_that_fails_shows_where_and_one_that_is_awaited_leaves_that_to_its_caller(
    tmp_path: Path,
) -> None:
    history = History(tmp_path / "history.db")
    async with Engine(history=history) as engine:
        future = engine.start(divided, 0)
        with pytest.raises(ZeroDivisionError):
            await future
        with pytest.raises(ZeroDivisionError):
            await divided(0)
    started, awaited = history.runs()[1], history.runs()[0]
    shown = [line.message for line in history.logs(started.id) if "Traceback" in line.message]
    assert len(shown) == 1
    assert shown[0].startswith(f"Flow run {started.name!r} - Finished in state Failed(")
    assert "in divide\n    return 1 / number\n" in shown[0]
    assert not any("Traceback" in line.message for line in history.logs(awaited.id))


@flow(persist_result=True)
async def gated(number: int) -> float:
    begun.set()
    await gate.wait()
    return await divide.submit(number)


async def test_a_flow_that_is_resumed_gets_the_grace_time_when_the_engine_is_left(tmp_path: Path) -> None:
    global begun, gate
    begun, gate = asyncio.Event(), asyncio.Event()
    history = History(tmp_path / "history.db")
    async with Engine(history=history, results=tmp_path / "results", grace=60) as engine:
        first = engine.start(gated, 2)
        await begun.wait()
        first.cancel()
        await wait_async([first])
        begun.clear()
        going_on = asyncio.ensure_future(resume(first.id))
        await begun.wait()
        gate.set()
    assert await going_on == 0.5
    assert [run.state for run in history.runs()] == ["Completed", "Cancelled"]


async def test_an_engine_that_was_left_starts_nothing_until_it_is_entered_again() -> None:
    entered = list[str]()

    @flow
    async def job(when: str) -> str:
        entered.append(when)
        return when

    engine = Engine(history=None)
    async with engine:
        assert await engine.start(job, "inside") == "inside"
    with pytest.raises(EngineClosed, match=r"Engine\.start\('job'\): the engine has been left"):
        engine.start(job, "after")
    async with engine:
        assert await engine.start(job, "again") == "again"
    assert entered == ["inside", "again"]


async def test_a_flow_that_the_shutdown_waits_for_cannot_start_others() -> None:
    begun, told = asyncio.Event(), asyncio.Event()

    @flow
    async def late() -> None:
        raise AssertionError("it was started")

    @flow
    async def main() -> str:
        begun.set()
        await told.wait()
        with pytest.raises(EngineClosed):
            engine.start(late)
        return "refused"

    async with Engine(history=None) as engine:
        handle = engine.start(main)
        await begun.wait()
        told.set()  # it goes on when this task gives way, which leaving the engine does after it was left
    assert await handle == "refused"


async def test_what_outlives_the_block_of_an_engine_does_not_bring_it_back() -> None:
    gate, runner = asyncio.Event(), ThreadPoolTaskRunner(max_workers=1)

    async def straggler() -> float:
        await gate.wait()
        return await divided(4)

    async with Engine(runner, history=None):
        assert await divided(2) == 0.5
        going_on = asyncio.create_task(straggler())
    assert not runner.is_open
    gate.set()
    assert await going_on == 0.25
    assert not runner.is_open
