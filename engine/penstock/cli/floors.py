"""What ``penstock bench`` measures: a fan-out of tasks that do nothing, on each runner and on what lies beneath it.

The short form of the project's own benchmarks, for the machine that it is run on. Penstock and the bare library take
turns in one process, so whatever slows the machine for a while slows both, and the ratio is what counts.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (the floor of the asynchronous runs)
import gc
import os
import statistics
import time  # noqa: TID251 (time is what is measured)
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any, NamedTuple

from penstock.engine import Engine
from penstock.flows import flow
from penstock.runners import DaskTaskRunner, ProcessPoolTaskRunner, RayTaskRunner, TaskRunner, ThreadPoolTaskRunner
from penstock.tasks import task

__all__ = ("PLACES", "Comparison", "Place", "compare")

Fan = Callable[[int], Any]


class Pair(NamedTuple):
    """The same fan-out twice, ready to be called with a number of tasks."""

    ours: Fan
    bare: Fan


@dataclass(frozen=True)
class Place:
    """Where the tasks run.

    Attributes:
        floor: What lies beneath, for people.
        open: Makes everything ready, so that starting workers is not measured.
        extra: The extra that brings it, if it is optional.
        share: The part of the tasks that is enough: where one costs a millisecond, there is no need for so many.
    """

    floor: str
    open: Callable[[], AbstractContextManager[Pair]]
    extra: str | None = None
    share: float = 1.0

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return self.extra is None or find_spec({"dask": "distributed"}.get(self.extra, self.extra)) is not None


class Comparison(NamedTuple):
    """What came of it: medians, and the ratios of the single pairs.

    Attributes:
        tasks: How many tasks one turn had.
        bare: Microseconds of a task of the floor.
        ours: The same for ours.
        ratio: The second in terms of the first.
        least: The smallest ratio of one pair.
        most: The largest.
    """

    tasks: int
    bare: float
    ours: float
    ratio: float
    least: float
    most: float


def compare(place: Place, tasks: int, rounds: int) -> Comparison:
    """Let both take turns, after one unmeasured turn each."""
    count = max(1, round(tasks * place.share))
    with place.open() as pair:
        for fan in pair:
            fan(count)
        turns = [(_seconds(pair.bare, count), _seconds(pair.ours, count)) for _ in range(rounds)]
    bare, ours = (statistics.median(column) for column in zip(*turns, strict=True))
    ratios = [own / floor for floor, own in turns]
    return Comparison(count, bare / count * 1e6, ours / count * 1e6, ours / bare, min(ratios), max(ratios))


def _seconds(fan: Fan, count: int) -> float:
    gc.collect()
    began = time.perf_counter()
    fan(count)
    return time.perf_counter() - began


def nothing(value: int) -> int:
    """What a task does."""
    return value


@task
async def _nothing_on_loop(value: int) -> int:
    return value


async def _coroutine(value: int) -> int:
    return value


@contextmanager
def _on_loop() -> Generator[Pair, None, None]:
    @flow
    async def ours(count: int) -> None:
        await _nothing_on_loop.map(range(count))

    async def bare(count: int) -> None:
        await asyncio.gather(*[asyncio.create_task(_coroutine(value)) for value in range(count)])

    def on(loop: asyncio.Runner, coroutine: Callable[[int], Coroutine[Any, Any, None]]) -> Fan:
        return lambda count: loop.run(coroutine(count))

    with Engine(history=None), asyncio.Runner() as loop:
        yield Pair(on(loop, ours), on(loop, bare))


@contextmanager
def _mapped(runner: TaskRunner) -> Generator[Fan, None, None]:
    mapped = task(nothing)

    @flow
    def ours(count: int) -> None:
        mapped.map(range(count)).result()

    with Engine(runner=runner, history=None):
        yield ours


def _submitted(pool: Executor) -> Fan:
    def bare(count: int) -> None:
        for future in [pool.submit(nothing, value) for value in range(count)]:
            future.result()

    return bare


def _workers() -> int:
    return os.cpu_count() or 1


@contextmanager
def _on_threads() -> Generator[Pair, None, None]:
    workers = _workers()
    with ThreadPoolExecutor(workers) as pool, _mapped(ThreadPoolTaskRunner(max_workers=workers)) as ours:
        yield Pair(ours, _submitted(pool))


@contextmanager
def _on_processes() -> Generator[Pair, None, None]:
    workers = _workers()
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        _mapped(ProcessPoolTaskRunner(max_workers=workers)) as ours,
    ):
        yield Pair(ours, _submitted(pool))


@contextmanager
def _on_dask() -> Generator[Pair, None, None]:
    from penstock_runners.extras import distributed

    dask: Any = distributed()
    options = {"n_workers": _workers(), "threads_per_worker": 1, "dashboard_address": None}

    def bare(count: int) -> None:
        client.gather(client.map(nothing, range(count), pure=False))

    with (
        dask.LocalCluster(**options) as cluster,
        dask.Client(cluster) as client,
        _mapped(DaskTaskRunner(cluster=cluster)) as ours,
    ):
        yield Pair(ours, bare)


@contextmanager
def _on_ray() -> Generator[Pair, None, None]:
    from penstock_runners.extras import ray as load

    ray: Any = load()
    ray.init(num_cpus=_workers(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remote = ray.remote(nothing)

    def bare(count: int) -> None:
        ray.get([remote.remote(value) for value in range(count)])

    try:
        with _mapped(RayTaskRunner()) as ours:
            yield Pair(ours, bare)
    finally:
        ray.shutdown()


PLACES = {
    "asyncio": Place("asyncio.create_task + gather", _on_loop),
    "threads": Place("ThreadPoolExecutor.submit", _on_threads),
    "processes": Place("ProcessPoolExecutor.submit", _on_processes),
    "dask": Place("Client.map + gather", _on_dask, "dask", 0.1),
    "ray": Place("remote + ray.get", _on_ray, "ray", 0.1),
}
"""What can be measured, by the name that a user gives."""
