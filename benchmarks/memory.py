"""Whether memory stays flat: the peak of a process that does much, beside one that does little of the same.

python benchmarks/memory.py [--small] [--json FILE]

Each figure is a process of its own, since a process does not give back what it once had.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import measure
from imports import run

from penstock import flow, task
from penstock.runners import ThreadPoolTaskRunner

MEGABYTE = 1_000_000


@task
def megabyte(value: int) -> bytes:
    return bytes([value % 255 + 1]) * MEGABYTE


@task
def small_result(value: int) -> int:
    return value


@task
async def async_small_result(value: int) -> int:
    return value


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def dropped(count: int) -> None:
    for value in range(count):
        assert len(megabyte.submit(value).result()) == MEGABYTE


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def streamed(count: int) -> None:
    assert sum(1 for _ in small_result.map_iter(iter(range(count)))) == count


@flow
async def streamed_on_a_loop(count: int) -> None:
    seen = 0
    async for _ in async_small_result.map_iter(iter(range(count))):
        seen += 1
    assert seen == count


@flow
def one_service_call(value: int) -> int:
    return small_result(value)


def results(count: int) -> None:
    """Make results of a megabyte and drop each."""
    dropped(count)


def threads(count: int) -> None:
    """Map over a generator on threads."""
    streamed(count)


def loop(count: int) -> None:
    """Map over a generator on the loop."""
    asyncio.run(streamed_on_a_loop(count))


def service(count: int) -> None:
    """Run many flows, one after the other."""
    for value in range(count):
        one_service_call(value)


# What is done, how much of it is little and much, and by how many megabytes the peaks may differ. A window of 256
# runs, a pool's queue and the allocator's arenas are full after the small one.
SHAPES: dict[str, tuple[Callable[[int], None], int, int, float]] = {
    "{:,} submitted tasks, each result of 1 MB dropped": (results, 1, 10_000, 50),
    "map_iter on threads over {:,} items": (threads, 10_000, 300_000, 10),
    "map_iter on a loop over {:,} items": (loop, 10_000, 1_000_000, 10),
    "{:,} flows, one after the other": (service, 1_000, 100_000, 10),
}


def work(name: str, count: int) -> None:
    """What a process does whose memory is measured; a line of the log for every task would be much of that."""
    logging.getLogger("penstock").setLevel(logging.WARNING)
    globals()[name](count)


def peak(work: Callable[[int], None], count: int) -> float:
    """The most megabytes that a process held which did so much of this work."""
    folder = str(Path(__file__).parent)
    return run(f"import sys; sys.path.insert(0, {folder!r}); import memory; memory.work({work.__name__!r}, {count})")[1]


def rows(small: bool) -> list[measure.Row]:
    """Measure each kind of work in both sizes."""
    found = list[measure.Row]()
    for name, (work, little, much, budget) in SHAPES.items():
        if small:
            little, much = max(1, little // 100), much // 100
        # Memory, unlike time, does not depend on the neighbours: two turns are enough.
        turns = [(peak(work, little), peak(work, much)) for _ in range(2)]
        found.append(measure.exceed(name.format(much), f"{little:,} of them", budget, "MB", turns))
    return found


if __name__ == "__main__":
    measure.program(__doc__, rows)
