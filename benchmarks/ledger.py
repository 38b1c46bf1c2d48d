"""Where the microseconds of a task go: engine, pickling, queue, store, history and logs, on every runner.

python benchmarks/ledger.py [--small] [--json FILE]

By subtraction. The same map of no-op tasks is run in configurations that differ in one thing, in turns, and a part is
what the processor time of all processes differs by, as the median over the rounds:

    engine      on a runner that calls the function where it was submitted, with all else off
    pickling    that runner, packing and unpacking calls and outcomes as for a worker, less engine
    queue       the real runner, less both: handing over, waking up, and for Dask and Ray all that is theirs
    store       the real runner with `persist_result=True` on the local disk, less without
    history     the real runner with a history in a local file, less without
    logs        the real runner with a line for every task, formatted into a file that keeps nothing, less without

Processor time adds up, also over processes that run at once, and leaves out what neighbours take; it leaves out waiting
too, so the time that a task takes all told stands beside it. The error is half of what lies between the quartiles of
the rounds; a part below its error is not told from nothing. A profiler would have said more, and made the engine, which
is many small functions, look twice as expensive beside the pickling, which is few large ones.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import measure
import psutil
from tables import Table

from penstock import Engine, flow, task
from penstock.cache_policies import NO_CACHE
from penstock.ports import Call, Report
from penstock.runners import (
    DaskTaskRunner,
    ProcessPoolTaskRunner,
    RayTaskRunner,
    SequentialTaskRunner,
    TaskRunner,
    ThreadPoolTaskRunner,
)
from penstock_runners import wire, worker

WORKERS = 2
ROUNDS = 9
PARTS = ("engine", "pickling", "queue", "store", "history", "logs")
# A task that is stored syncs two files to the disk: a tenth of the tasks is enough.
FEWER = 10


def identity(value: int) -> int:
    return value


async def coroutine(value: int) -> int:
    return value


class InPlace(SequentialTaskRunner):
    """Calls the function where it was submitted, but takes batches, as a runner with workers does."""

    batches: ClassVar[bool] = True


class Wired(InPlace):
    """The same, with everything packed and unpacked on the way there and back."""

    remote: ClassVar[bool] = True

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Pack, run, unpack."""
        work = wire.pack_work(calls[0].work)
        batch, kept, _ = wire.pack(calls, work.digest)

        def emit(index: int, packed: wire.PackedOutcome) -> None:
            report(kept[index], wire.unpack_outcome(packed, "identity"))

        worker.run_batch(batch, work, emit)


@flow
def calls(step: Any, count: int) -> None:
    for value in range(count):
        step(value)


@flow
def maps(step: Any, count: int) -> None:
    step.map(range(count)).wait()


@flow
async def maps_on_loop(step: Any, count: int) -> None:
    await step.map(range(count))


@dataclass(frozen=True)
class Way:
    """One way in which a task is run.

    Attributes:
        name: As the table shows it.
        run: Runs so many tasks.
        function: What a task does.
        real: Makes the runner; None where the work is done in place.
        wired: Whether its calls are pickled.
    """

    name: str
    run: Callable[[Any, int], Any]
    function: Callable[[int], Any]
    real: Callable[[], TaskRunner] | None = None
    wired: bool = False


WAYS = (
    Way("called in a sync flow", calls, identity),
    Way(".map in an async flow", lambda step, count: asyncio.run(maps_on_loop(step, count)), coroutine),
    Way(".map on threads", maps, identity, lambda: ThreadPoolTaskRunner(max_workers=WORKERS)),
    Way(".map on processes", maps, identity, lambda: ProcessPoolTaskRunner(WORKERS), wired=True),
    Way(".map on Dask", maps, identity, lambda: DaskTaskRunner(cluster_kwargs=DASK), wired=True),
    Way(".map on Ray", maps, identity, lambda: RayTaskRunner(init_kwargs={"num_cpus": WORKERS}), wired=True),
)
DASK = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": None}


@dataclass(frozen=True)
class Spent:
    """What a task took in one round: microseconds of processor time, and all told."""

    busy: float
    elapsed: float


def processor_seconds() -> float:
    """What this process and all that it started have used so far."""
    workers = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            workers += times.user + times.system
    return time.process_time() + workers


def spend(way: Way, step: Any, runner: TaskRunner, count: int) -> Spent:
    """Run once."""
    gc.collect()
    with Engine(runner=runner):
        began, busy = time.perf_counter(), processor_seconds()
        way.run(step, count)
        elapsed = time.perf_counter() - began
        return Spent((processor_seconds() - busy) / count * 1e6, elapsed / count * 1e6)


@contextmanager
def lines() -> Iterator[None]:
    """A line for every run, formatted and thrown away."""
    logger, handler = logging.getLogger("penstock"), logging.FileHandler(os.devnull)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(logging.WARNING)
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def history(folder: str) -> Iterator[None]:
    """A history in a local file, with the default durability."""
    before = os.environ["PENSTOCK_HISTORY"]
    os.environ["PENSTOCK_HISTORY"] = f"sqlite:///{folder}/history.db"
    try:
        yield
    finally:
        os.environ["PENSTOCK_HISTORY"] = before


Configurations = dict[str, Callable[[], Spent]]


def configurations(way: Way, runner: TaskRunner, folder: str, count: int) -> Configurations:
    """What is measured of a way, by name; `PARTS` are differences between these."""
    step = task(way.function)
    stored = task(persist_result=True, cache_policy=NO_CACHE, result_storage=folder)(way.function)
    in_place = InPlace() if runner.batches else SequentialTaskRunner()

    def with_history() -> Spent:
        with history(folder):
            return spend(way, step, runner, count)

    def with_lines() -> Spent:
        with lines():
            return spend(way, step, runner, count)

    found: Configurations = {
        "engine": lambda: spend(way, step, in_place, count),
        "real": lambda: spend(way, step, runner, count),
        "store": lambda: spend(way, stored, runner, max(1, count // FEWER)),
        "logs": with_lines,
        "history": with_history,
    }
    if way.wired:
        found["wired"] = lambda: spend(way, step, Wired(), count)
    return found


def measured(way: Way, count: int, rounds: int) -> dict[str, Any]:
    """The parts of one way."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runner = SequentialTaskRunner() if way.real is None else way.real()
        stack.enter_context(runner)
        found = configurations(way, runner, folder, count)
        taken: dict[str, list[Spent]] = {name: [] for name in found}
        for number in range(rounds + 1):
            for name, take in found.items():
                spent = take()
                if number:  # the first turn of each only warms up
                    taken[name].append(spent)
    base = "wired" if way.wired else "engine"
    parts = {
        "engine": part(taken["engine"]),
        "pickling": part(taken["wired"], taken["engine"]) if way.wired else None,
        "queue": part(taken["real"], taken[base]) if way.real is not None else None,
        **{name: part(taken[name], taken["real"]) for name in ("store", "history", "logs")},
    }
    return {
        "path": way.name,
        "parts": parts,
        "elapsed": statistics.median(spent.elapsed for spent in taken["real"]),
        "elapsed_stored": statistics.median(spent.elapsed for spent in taken["store"]),
    }


def part(more: Sequence[Spent], less: Sequence[Spent] = ()) -> dict[str, float]:
    """The median of what one configuration takes more than another, and its error."""
    pairs = zip(more, less, strict=True) if less else ((spent, Spent(0, 0)) for spent in more)
    differences = [one.busy - other.busy for one, other in pairs]
    low, middle, high = statistics.quantiles(differences, n=4, method="inclusive")
    return {"microseconds": middle, "error": (high - low) / 2}


def table(paths: Sequence[dict[str, Any]]) -> Table:
    """A row for each way."""
    rows = [
        [
            path["path"],
            *(cell(path["parts"][name]) for name in PARTS),
            f"{path['elapsed']:.1f}",
            f"{path['elapsed_stored']:,.0f}",
        ]
        for path in paths
    ]
    columns = ["µs a task", *PARTS, "all told, without store, history and logs", "all told, with store"]
    return Table("Where the microseconds go", columns, rows)


def cell(figure: dict[str, float] | None) -> str:
    """A part with its error."""
    return "" if figure is None else f"{figure['microseconds']:.1f} ± {figure['error']:.1f}"


def main() -> None:
    """Measure every way."""
    options = measure.arguments(__doc__)
    facts = measure.machine()
    ways = WAYS[:4] if options.small else WAYS  # those that take no seconds to start
    count, rounds = (100, 2) if options.small else (10_000, ROUNDS)
    paths = [measured(way, count, rounds) for way in ways]
    table(paths).show()
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": [], "paths": paths}, indent=1))


if __name__ == "__main__":
    main()
