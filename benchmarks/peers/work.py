"""The work that is compared, and how a peer's program does it and is timed.

Each peer has one program, ``with_PEER.py``, which says how an expert would do the work with that peer; this module,
imported in the peer's own environment, is the rest. It needs the standard library, and numpy for large results.

    python with_PEER.py FILE ways                 what the peer can do, and its versions
    python with_PEER.py FILE overhead WAY         no-op tasks, as many as fit into a few seconds
    python with_PEER.py FILE fanout WAY COUNT     so many no-op tasks
    python with_PEER.py FILE once WAY COUNT       the same, a single time: whoever started it measures the memory
    python with_PEER.py FILE cpu WAY COUNT MS     tasks that keep a processor busy for so many milliseconds
    python with_PEER.py FILE large ROUNDS         an array of 512 MB that is kept and read back
    python with_PEER.py FILE cold WAY             the time of day at which the first task had ended

What comes of it is written to FILE as JSON. A round that takes longer than `CAP` seconds is given up, with the whole
process, and the report says so: nothing is ever extrapolated. A round that is the only one may take twice as long.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

ROUNDS = 5
WORKERS = 2
MEGABYTES = int(os.environ.get("PENSTOCK_BENCH_MEGABYTES", "512"))

# Seconds that one of several rounds may take at most, that a round of the overhead should take unless it has the most
# tasks, and that its rounds last in all.
CAP = float(os.environ.get("PENSTOCK_BENCH_CAP", "60"))
ROUND = float(os.environ.get("PENSTOCK_BENCH_ROUND", "2"))
TOTAL = 2.0
MOST_TASKS = 10_000
MOST_ROUNDS = 21

Function = Callable[[Any], Any]
Run = Callable[[Sequence[Any]], tuple[float, Sequence[Any]]]
"""Does a function for every item; gives the seconds that this took, and the values in order."""
Way = Callable[[Function], AbstractContextManager[Run]]
"""Makes everything ready, so that neither starting workers nor defining tasks is timed."""
Keep = Callable[[int], tuple[float, Any]]
"""Keeps `array` of a number as a task's result, reads it back; gives seconds and what was read."""

PARALLEL = ("processes", "dask", "ray")
"""The ways that use more than one processor for Python code."""


def identity(item: Any) -> Any:
    return item


def burn(loops: int) -> int:
    """Keep a processor busy."""
    value = 1
    for _ in range(loops):
        value = (value * 1_103_515_245 + 12_345) & 0x7FFFFFFF
    return value


def burn_many(loops: int, count: int) -> None:
    """Do the work of several tasks, with nothing between them."""
    for _ in range(count):
        burn(loops)


def loops_for(seconds: float) -> int:
    """How many loops take so many seconds of an undisturbed processor here."""
    trial, times = 20_000, list[float]()
    for _ in range(30):
        began = time.perf_counter()
        burn(trial)
        times.append(time.perf_counter() - began)
    return max(1, round(trial * seconds / min(times)))


@cache
def _noise() -> Any:
    import numpy

    return numpy.random.default_rng(1).random(MEGABYTES * 1_000_000 // 8)


def array(number: int) -> Any:
    """The large value, made beforehand and marked with a number; a task that returns it does nothing else."""
    noise = _noise()
    noise[0] = number
    return noise


class Report:
    """What came of it so far, written when it is complete, or when a round takes too long."""

    def __init__(self, file: Path, cap: float) -> None:
        self.facts: dict[str, Any] = {"rounds": []}
        self._file = file
        self._cap = cap

    def write(self) -> None:
        self._file.write_text(json.dumps(self.facts))

    def round(self, take: Callable[[], float]) -> float:
        """Take one round, and enter its seconds."""
        seconds = self.unentered(take)
        self.facts["rounds"].append(seconds)
        return seconds

    def unentered(self, take: Callable[[], float]) -> float:
        """Take one round."""
        gc.collect()
        watchdog = threading.Timer(self._cap, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            return take()
        finally:
            watchdog.cancel()

    def _give_up(self) -> None:
        self.facts["unfinished"] = self._cap
        self.write()
        os._exit(0)


def checked(run: Run, items: Sequence[Any], expected: Sequence[Any]) -> float:
    """Seconds of a round whose values are right."""
    seconds, values = run(items)
    if list(values) != list(expected):
        raise AssertionError(f"{len(values)} values came back, and they are not those of {len(items)} tasks")
    return seconds


def noops(run: Run, count: int) -> float:
    """Seconds of so many tasks that do nothing."""
    items = list(range(count))
    return checked(run, items, items)


def overhead(report: Report, way: Way) -> None:
    """Find how many tasks fit into a round, then take rounds."""
    with way(identity) as run:
        count = report.facts["count"] = 10
        report.unentered(partial(noops, run, count))
        while (took := report.unentered(partial(noops, run, count))) < ROUND / 2 and count < MOST_TASKS:
            count = report.facts["count"] = min(MOST_TASKS, 10 * count, int(count * ROUND / took))
        rounds = report.facts["rounds"]
        while len(rounds) < ROUNDS or (sum(rounds) < TOTAL and len(rounds) < MOST_ROUNDS):
            report.round(partial(noops, run, count))


def fan_out(report: Report, way: Way, count: int, rounds: int) -> None:
    """Take rounds of so many tasks."""
    report.facts["count"] = count
    with way(identity) as run:
        report.unentered(partial(noops, run, 10))
        for _ in range(rounds):
            report.round(partial(noops, run, count))


def cpu(report: Report, way: Way, count: int, milliseconds: float) -> None:
    """Take rounds of tasks that burn, in turns with two bare processes that burn as much with nothing between."""
    loops = loops_for(milliseconds / 1e3)
    value = burn(loops)
    report.facts |= {"count": count, "ideal": []}
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool, way(burn) as run:
        bare(pool, 10, WORKERS)
        report.unentered(partial(checked, run, [10] * 10, [burn(10)] * 10))
        for _ in range(ROUNDS):
            report.facts["ideal"].append(bare(pool, loops, count))
            report.round(partial(checked, run, [loops] * count, [value] * count))


def bare(pool: ProcessPoolExecutor, loops: int, count: int) -> float:
    """Seconds that bare processes take for an equal part of the work each."""
    began = time.perf_counter()
    for future in [pool.submit(burn_many, loops, count // WORKERS) for _ in range(WORKERS)]:
        future.result()
    return time.perf_counter() - began


def large_result(report: Report, large: Callable[[Path], AbstractContextManager[Keep]], rounds: int) -> None:
    """Keep the array and read it back."""
    report.facts["megabytes"] = MEGABYTES
    folder = Path("kept")
    folder.mkdir()

    def take(number: int) -> float:
        seconds, again = keep(number)
        if again.shape != array(number).shape or again[0] != number:
            raise AssertionError("what was read is not what was kept")
        return seconds

    _noise()
    with large(folder.absolute()) as keep:
        for number in range(rounds):
            report.round(partial(take, number))


def cold(report: Report, way: Way) -> None:
    """Do one task, and say when that was."""
    with way(identity) as run:
        noops(run, 1)
        report.facts["ended"] = time.time()


def program(
    packages: Sequence[str],
    ways: dict[str, Way],
    *,
    fan_outs: Sequence[str],
    large: Callable[[Path], AbstractContextManager[Keep]] | None = None,
) -> None:
    """Be the program of one peer.

    Args:
        packages: Whose versions matter, the peer first.
        ways: The ways in which it does work, among "called", "async", "threads" and `PARALLEL`.
        fan_outs: The ways in which large fan-outs are measured; the first one also for memory and the cold start.
        large: Makes ready to keep and read large results, in an empty folder; None if the peer does not keep results.
    """
    file, what, *arguments = sys.argv[1:]
    report = Report(Path(file), 2 * CAP if what == "once" else CAP)
    if what == "ways":
        versions = {package: metadata.version(package) for package in packages}
        report.facts = {
            "ways": list(ways),
            "fan_outs": fan_outs,
            "parallel": [way for way in PARALLEL if way in ways],
            "large": large is not None,
            "versions": versions,
        }
    elif what == "overhead":
        overhead(report, ways[arguments[0]])
    elif what in ("fanout", "once"):
        fan_out(report, ways[arguments[0]], int(arguments[1]), 1 if what == "once" else ROUNDS)
    elif what == "cpu":
        cpu(report, ways[arguments[0]], int(arguments[1]), float(arguments[2]))
    elif what == "large" and large is not None:
        large_result(report, large, int(arguments[0]))
    elif what == "cold":
        cold(report, ways[arguments[0]])
    else:
        raise SystemExit(f"{what}? {__doc__}")
    report.write()


def timed(do: Callable[[], Sequence[Any]]) -> tuple[float, Sequence[Any]]:
    """The seconds that something took, and what it gave."""
    began = time.perf_counter()
    values = do()
    return time.perf_counter() - began, values


@contextmanager
def dask_client() -> Any:
    """A client of two worker processes, the same for every peer that runs on Dask."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def ray_session() -> Any:
    """Ray with two workers, the same for every peer that runs on it."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
