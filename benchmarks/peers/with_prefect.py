# /// script
# dependencies = [
#     "prefect==3.8.8", "prefect-dask==0.3.7", "prefect-ray==0.6.0",
#     "dask==2026.8.0", "distributed==2026.8.0", "ray==2.60.0", "numpy==2.4.6",
#     "fastapi==0.150.0",  # its server does not start with 0.155 and later, which its own requirements allow
# ]
# ///
"""Prefect with its ephemeral server: logs at ERROR and not sent to the server, no analytics.

The time is taken inside the flow, so that neither the server's start nor the flow's own second count. Dask and Ray are
up beforehand. Large results are those of a task with `persist_result=True` and the `INPUTS` cache policy on a local
folder, called twice; they are not synced.
"""

import asyncio
import os
import time
from contextlib import contextmanager
from pathlib import Path

os.environ |= {
    "PREFECT_HOME": str(Path.cwd() / "prefect"),
    "PREFECT_LOCAL_STORAGE_PATH": str(Path.cwd() / "kept"),
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
    "DO_NOT_TRACK": "1",
}

import work
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner


@contextmanager
def called(function):
    step = task(function)

    @flow(validate_parameters=False)
    def run(items):
        return work.timed(lambda: [step(item) for item in items])

    yield run


@contextmanager
def on_loop(function):
    @task
    async def step(item):
        return function(item)

    @flow(validate_parameters=False)
    async def run(items):
        began = time.perf_counter()
        values = await asyncio.gather(*[step(item) for item in items])
        return time.perf_counter() - began, values

    yield lambda items: asyncio.run(run(items))


@contextmanager
def mapped(function, runner):
    step = task(function)

    def run(items):
        @flow(task_runner=runner)
        def fan_out():  # without parameters, of which the server takes half a megabyte at most
            return work.timed(lambda: step.map(items).result())

        return fan_out()

    yield run


def threads(function):
    return mapped(function, ThreadPoolTaskRunner(max_workers=work.WORKERS))


def processes(function):
    return mapped(function, ProcessPoolTaskRunner(max_workers=work.WORKERS))


@contextmanager
def on_dask(function):
    from prefect_dask import DaskTaskRunner

    with (
        work.dask_client() as client,
        mapped(function, DaskTaskRunner(address=client.scheduler.address)) as run,
    ):
        yield run


@contextmanager
def on_ray(function):
    from prefect_ray import RayTaskRunner

    with work.ray_session(), mapped(function, RayTaskRunner()) as run:
        yield run


@contextmanager
def large(folder):
    @task(persist_result=True, cache_policy=INPUTS, cache_result_in_memory=False)
    def made(number):
        return work.array(number)

    @flow
    def keep(number):
        def both():
            made(number)
            return made(number)

        return work.timed(both)

    yield keep


if __name__ == "__main__":
    work.program(
        ["prefect", "prefect-dask", "prefect-ray", "dask", "ray"],
        {
            "called": called,
            "async": on_loop,
            "threads": threads,
            "processes": processes,
            "dask": on_dask,
            "ray": on_ray,
        },
        fan_outs=["threads"],
        large=large,
    )
