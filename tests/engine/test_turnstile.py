"""A flood of async tasks: let in by portions, all of them, and none left over when the loop ends."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from penstock import flow, task
from penstock.futures import Future, wait_async

MANY = 1_000

place: ContextVar[int] = ContextVar("place", default=0)


@task
async def stay(entered: list[None]) -> None:
    entered.append(None)
    await asyncio.Event().wait()


def test_all_of_a_flood_run_at_the_same_time() -> None:
    @task
    async def meet(everybody: asyncio.Barrier, number: int) -> int:
        await everybody.wait()
        return number

    @flow
    async def crowd() -> list[int]:
        everybody = asyncio.Barrier(MANY)
        return await meet.map([everybody] * MANY, range(MANY))

    assert asyncio.run(asyncio.wait_for(crowd(), 60)) == list(range(MANY))


def test_the_loop_turns_while_a_flood_begins() -> None:
    began = 0
    seen = list[int]()

    @task
    async def noop() -> None:
        nonlocal began
        began += 1

    @flow
    async def crowd() -> None:
        futures = [noop.submit() for _ in range(MANY)]
        while began < MANY:
            await asyncio.sleep(0)
            seen.append(began)
        for future in futures:
            await future

    asyncio.run(crowd())
    assert len(set(seen)) >= MANY / 100


def test_every_task_has_the_context_of_its_submission_and_keeps_its_changes_to_itself() -> None:
    @task
    async def move() -> int:
        before = place.get()
        place.set(-1)
        await asyncio.sleep(0)
        return before

    @flow
    async def crowd() -> list[int]:
        futures = []
        for number in range(MANY):
            place.set(number)
            futures.append(move.submit())
        return [await future for future in futures]

    assert asyncio.run(crowd()) == list(range(MANY))


def test_what_a_loop_has_not_begun_when_it_ends_is_cancelled() -> None:
    entered = list[None]()

    async def leave() -> list[Future[None]]:
        return [stay.submit(entered) for _ in range(MANY)]

    futures = asyncio.run(leave())
    assert all(future.done and future.state.is_cancelled() for future in futures)
    assert len(entered) <= MANY / 2


def test_a_flood_that_is_cancelled_begins_nothing_more() -> None:
    entered = list[None]()

    @flow
    async def crowd() -> None:
        futures = [stay.submit(entered) for _ in range(MANY)]
        await asyncio.sleep(0)
        before = len(entered)
        for future in futures:
            future.cancel()
        await wait_async(futures)
        assert len(entered) == before < MANY
        assert all(future.state.is_cancelled() for future in futures)

    asyncio.run(crowd())
