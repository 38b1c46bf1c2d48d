"""Nothing in between: plain calls, asyncio, the standard library's pools, Dask's client and Ray's remote functions.

No states, no retries, no record of anything: this is the floor, not a competitor. Large results are written by
`numpy.save`, synced and loaded.
"""

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import work


@contextmanager
def called(function):
    yield lambda items: work.timed(lambda: [function(item) for item in items])


@contextmanager
def on_loop(function):
    async def coroutine(item):
        return function(item)

    async def gather(items):
        return await asyncio.gather(*[asyncio.create_task(coroutine(item)) for item in items])

    with asyncio.Runner() as runner:
        yield lambda items: work.timed(lambda: runner.run(gather(items)))


def pooled(pool, function):
    def run(items):
        futures = [pool.submit(function, item) for item in items]
        return [future.result() for future in futures]

    return lambda items: work.timed(lambda: run(items))


@contextmanager
def threads(function):
    with ThreadPoolExecutor(work.WORKERS) as pool:
        yield pooled(pool, function)


@contextmanager
def processes(function):
    with ProcessPoolExecutor(work.WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pooled(pool, function)


@contextmanager
def on_dask(function):
    with work.dask_client() as client:
        yield lambda items: work.timed(lambda: client.gather(client.map(function, items, pure=False)))


@contextmanager
def on_ray(function):
    import ray

    with work.ray_session():
        remote = ray.remote(function)
        yield lambda items: work.timed(lambda: ray.get([remote.remote(item) for item in items]))


@contextmanager
def large(folder):
    import numpy

    def keep(number):
        path = folder / f"{number}.npy"
        with path.open("wb") as file:
            numpy.save(file, work.array(number))
            os.fsync(file.fileno())
        return numpy.load(path)

    yield lambda number: work.timed(lambda: keep(number))


if __name__ == "__main__":
    work.program(
        ["dask", "distributed", "ray", "numpy"],
        {
            "called": called,
            "async": on_loop,
            "threads": threads,
            "processes": processes,
            "dask": on_dask,
            "ray": on_ray,
        },
        fan_outs=["threads", "async", "processes", "dask", "ray"],
        large=large,
    )
