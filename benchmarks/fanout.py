"""What fan-out costs inside this process: ``.submit`` and ``.map`` beside bare asyncio tasks and a bare thread pool.

On the loop there is one thread that never waits, and its processor time counts; with a pool, time itself does.

python benchmarks/fanout.py [--small] [--json FILE]
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import measure
from direct import FLOOR, bare_asyncio

from penstock import Engine, flow, task
from penstock.runners import ThreadPoolTaskRunner

WORKERS = 2


def identity(value: int) -> int:
    return value


sync_task = task(identity)


@task
async def async_task(value: int) -> int:
    return value


@flow
async def async_submit(count: int) -> float:
    began = time.process_time()
    futures = [async_task.submit(value) for value in range(count)]
    for future in futures:
        await future
    return time.process_time() - began


@flow
async def async_map(count: int) -> float:
    began = time.process_time()
    await async_task.map(range(count))
    return time.process_time() - began


@flow
def submit_all(count: int) -> float:
    began = time.perf_counter()
    futures = [sync_task.submit(value) for value in range(count)]
    for future in futures:
        future.result()
    return time.perf_counter() - began


@flow
def map_all(count: int) -> float:
    began = time.perf_counter()
    sync_task.map(range(count)).result()
    return time.perf_counter() - began


def bare_submit(pool: Executor, count: int) -> float:
    """Seconds that as many bare submissions take."""
    began = time.perf_counter()
    futures = [pool.submit(identity, value) for value in range(count)]
    for future in futures:
        future.result()
    return time.perf_counter() - began


def rows(small: bool) -> list[measure.Row]:
    """Measure both ways to fan out, on the loop and on threads."""
    count = 200 if small else 10_000
    compare = partial(measure.compare, tasks=count, small=small)
    on_loop = partial(bare_asyncio, count)
    found = [
        compare("async .submit in an async flow", FLOOR, 3.0, on_loop, lambda: asyncio.run(async_submit(count))),
        compare("async .map in an async flow", FLOOR, 3.0, on_loop, lambda: asyncio.run(async_map(count))),
    ]
    with ThreadPoolExecutor(WORKERS) as pool, Engine(runner=ThreadPoolTaskRunner(max_workers=WORKERS)):
        on_threads, name = partial(bare_submit, pool, count), "ThreadPoolExecutor.submit + result"
        found.append(compare(".submit on threads", name, 4.0, on_threads, partial(submit_all, count)))
        found.append(compare(".map on threads", name, 4.0, on_threads, partial(map_all, count)))
    return found


if __name__ == "__main__":
    measure.program(__doc__, rows)
