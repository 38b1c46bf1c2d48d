"""What it costs to make a call a task: directly called tasks beside a bare asyncio task.

One thread that never waits: the processor's time is what it costs, and leaves out what neighbours take.

python benchmarks/direct.py [--small] [--json FILE]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import measure

from penstock import Task, flow, task
from penstock.cache_policies import NO_CACHE

FLOOR = "asyncio.create_task + gather"


@task
def sync_noop(value: Any) -> None:
    return None


@task(cache_policy=NO_CACHE, persist_result=False)
def sync_noop_kept_nowhere(value: Any) -> None:
    return None


@task
async def async_noop(value: Any) -> None:
    return None


async def noop() -> None:
    return None


@flow
def sync_flow(called: Task[..., Any], value: Any, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        called(value)
    return time.process_time() - began


@flow
async def async_flow(value: Any, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        await async_noop(value)
    return time.process_time() - began


def bare_asyncio(count: int) -> float:
    """Seconds that as many bare asyncio tasks take."""

    async def gather() -> float:
        began = time.process_time()
        await asyncio.gather(*[asyncio.create_task(noop()) for _ in range(count)])
        return time.process_time() - began

    return asyncio.run(gather())


def awaited(value: Any, count: int) -> float:
    """Seconds that as many awaited tasks take."""
    return asyncio.run(async_flow(value, count))


def rows(small: bool) -> list[measure.Row]:
    """Measure calls with small and large arguments, from both kinds of flow."""
    count = 200 if small else 10_000
    large = list(range(1_000_000))
    floor = partial(bare_asyncio, count)
    called = partial(sync_flow, sync_noop, 1, count)
    compare: Callable[..., measure.Row] = partial(measure.compare, tasks=count, small=small)
    return [
        compare("sync task called in a sync flow", FLOOR, 1.5, floor, called),
        compare("async task awaited in an async flow", FLOOR, 1.5, floor, partial(awaited, 1, count)),
        compare(
            "the same with a list of 1,000,000 that it has seen",
            "the task with an int",
            1.1,
            called,
            partial(sync_flow, sync_noop, large, count),
        ),
        compare(
            "NO_CACHE and no persistence, said aloud",
            "the task without options",
            1.1,
            called,
            partial(sync_flow, sync_noop_kept_nowhere, 1, count),
        ),
    ]


if __name__ == "__main__":
    measure.program(__doc__, rows)
