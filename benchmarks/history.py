"""What it costs to record: tasks with history on beside the same tasks with history off.

The processor's time of the whole process counts, that of the writer's thread included, from the first call until all is
written: what is recorded while a second processor would have nothing else to do is not free. With durability="full" a
run waits for the disk, so time itself counts.

python benchmarks/history.py [--small] [--json FILE]
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
from direct import async_flow, sync_flow, sync_noop
from fanout import WORKERS, async_map, map_all

from penstock import Engine
from penstock.history import History
from penstock.runners import ThreadPoolTaskRunner
from penstock_history.database import Durability
from penstock_history.recording.backlog import MOST_WAITING
from penstock_history.recording.recorder import Recorder

BUDGET = 15


def called(count: int) -> None:
    """Direct calls in a sync flow."""
    sync_flow(sync_noop, 1, count)


def awaited(count: int) -> None:
    """Direct calls in an async flow."""
    asyncio.run(async_flow(1, count))


def mapped(count: int) -> None:
    """A map on the loop."""
    asyncio.run(async_map(count))


def on_threads(count: int) -> None:
    """A map on a pool."""
    map_all(count)


WAYS: dict[str, Callable[[int], None]] = {
    "sync tasks called": called,
    "async tasks awaited": awaited,
    "async .map": mapped,
    ".map on threads": on_threads,
}


def spent(run: Callable[[], None], history: History | None, now: Callable[[], float]) -> float:
    """Seconds, by some clock, until a run of a flow has ended and all is written."""
    began = now()
    with Engine(ThreadPoolTaskRunner(max_workers=WORKERS), history=history):
        run()
    return now() - began


def turns(
    way: str, count: int, small: bool, now: Callable[[], float], durability: Durability | None = None
) -> list[tuple[float, float]]:
    """Microseconds of a task that is not recorded and of one that is, by some clock."""
    run = partial(WAYS[way], count)
    with TemporaryDirectory() as folder:
        on = partial(spent, run, History(Path(folder) / "history.db", durability), now)
        off = partial(spent, run, None, now)
        return [(a / count * 1e6, b / count * 1e6) for a, b in measure.take_turns(off, on, small)]


def more(way: str, count: int, small: bool) -> measure.Row:
    """What a task costs more if it is recorded."""
    both = turns(way, count, small, time.process_time)
    return measure.exceed(f"{way}, {count:,} recorded", "not recorded", BUDGET, "µs", both)


class Watch:
    """Looks every few milliseconds at how much waits to be written."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0

    def _look(self) -> None:
        while not self._over.wait(0.003):
            self.most = max(self.most, self._recorder.waiting)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def kept_up(way: str, count: int) -> tuple[tuple[float, float], int, float]:
    """How long a large run took, and until all was written; how much waited at most; how many bytes a run takes."""
    with TemporaryDirectory() as folder:
        history = History(Path(folder) / "history.db")
        began = time.perf_counter()
        with Engine(ThreadPoolTaskRunner(max_workers=WORKERS), history=history) as engine:
            recorder: Any = engine.recorder
            with Watch(recorder) as watch:
                WAYS[way](count)
            ran = time.perf_counter() - began
        written = time.perf_counter() - began
        root = history.runs()[0]
        recorded = sum(1 for _ in history.inside(root.id))
        assert recorded == count, f"{count - recorded} runs were lost"
        size = sum(os.path.getsize(file) for file in Path(folder).iterdir())
    return (ran, written), watch.most, size / count


def speed(count: int, small: bool) -> list[measure.Row]:
    """Whether a large number is written as fast as it runs, with little waiting meanwhile."""
    found = [kept_up("sync tasks called", count) for _ in range(2 if small else measure.PAIRS)]
    times, waiting, sizes = zip(*found, strict=True)
    return [
        measure.ratio(f"{count:,} tasks called, all written", "the last one has returned", 1.2, times, count),
        measure.exceed(
            f"{count:,} tasks called, most that wait",
            "none",
            2 * MOST_WAITING,
            "runs",
            [(0.0, most) for most in waiting],
        ),
        measure.exceed(f"{count:,} tasks called, on disk", "nothing", None, "B", [(0.0, size) for size in sizes]),
    ]


def full(count: int, small: bool) -> list[measure.Row]:
    """What durability="full" costs where many runs share a commit, and where each waits for its own."""
    found = list[measure.Row]()
    for way, tasks in (("async .map", count), ("sync tasks called", max(count // 10, 10))):
        both = turns(way, tasks, small, time.perf_counter, "full")
        found.append(measure.exceed(f'{way}, {tasks:,} with durability="full"', "not recorded", None, "µs", both))
    return found


def rows(small: bool) -> list[measure.Row]:
    """Measure each way to run tasks, a large number of them, and what "full" costs."""
    count = 200 if small else 10_000
    found = [more(way, count, small) for way in WAYS]
    return [*found, *speed(10 * count, small), *full(count // 10, small)]


if __name__ == "__main__":
    measure.program(__doc__, rows)
