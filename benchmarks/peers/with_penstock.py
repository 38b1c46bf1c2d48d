"""Penstock: the defaults, with history off; `.map` on two workers, which travels in batches where a trip costs.

Large results are those of a task with `persist_result=True` and a cache of its inputs, called twice: the first call
makes and stores the value, synced and checksummed, the second finds, verifies and loads it.
"""

import asyncio
import logging
import os
from contextlib import contextmanager

os.environ["PENSTOCK_HISTORY"] = "none"

import work

from penstock import Engine, flow, task
from penstock.cache_policies import INPUTS
from penstock.runners import DaskTaskRunner, ProcessPoolTaskRunner, RayTaskRunner, ThreadPoolTaskRunner

logging.getLogger("penstock").setLevel(logging.WARNING)


@contextmanager
def called(function):
    step = task(function)

    @flow
    def run(items):
        return work.timed(lambda: [step(item) for item in items])

    yield run


@contextmanager
def on_loop(function):
    @task
    async def step(item):
        return function(item)

    @flow
    async def run(items):
        began = asyncio.get_running_loop().time()
        values = await step.map(items)
        return asyncio.get_running_loop().time() - began, values

    with asyncio.Runner() as runner:
        yield lambda items: runner.run(run(items))


@contextmanager
def mapped(function, runner):
    step = task(function)

    @flow
    def run(items):
        return work.timed(lambda: step.map(items).result())

    with Engine(runner=runner):
        yield run


def threads(function):
    return mapped(function, ThreadPoolTaskRunner(max_workers=work.WORKERS))


def processes(function):
    return mapped(function, ProcessPoolTaskRunner(max_workers=work.WORKERS))


@contextmanager
def on_dask(function):
    with work.dask_client() as client, mapped(function, DaskTaskRunner(cluster=client.cluster)) as run:
        yield run


@contextmanager
def on_ray(function):
    with work.ray_session(), mapped(function, RayTaskRunner()) as run:
        yield run


@contextmanager
def large(folder):
    @task(persist_result=True, cache_policy=INPUTS, result_storage=folder, cache_result_in_memory=False)
    def made(number):
        return work.array(number)

    @flow
    def keep(number):
        made(number)
        return made(number)

    yield lambda number: work.timed(lambda: keep(number))


if __name__ == "__main__":
    work.program(
        ["penstock", "dask", "distributed", "ray", "numpy"],
        {
            "called": called,
            "async": on_loop,
            "threads": threads,
            "processes": processes,
            "dask": on_dask,
            "ray": on_ray,
        },
        fan_outs=["threads", "called", "async", "processes", "dask", "ray"],
        large=large,
    )
