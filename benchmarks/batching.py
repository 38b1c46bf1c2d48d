"""How many calls should travel together: fixed sizes beside ``"auto"``, for short, middling and long tasks.

python benchmarks/batching.py [--small] [--json FILE]

The floor of each row is the fixed size that was the quickest, which nobody knows beforehand; ``"auto"`` has to come
close to it for every length. The constants of penstock/schedule.py and each runner's ``batch_seconds`` were chosen by
this sweep.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, Literal

import measure
from peers.work import burn, loops_for

from penstock import Engine, flow, task
from penstock.ports import Runner
from penstock.runners import DaskTaskRunner, ProcessPoolTaskRunner, RayTaskRunner

WORKERS = 2
Size = int | Literal["auto"]
SIZES: tuple[Size, ...] = (1, 10, 100, 1000, "auto")

# Seconds of a task, and how many of them: enough that a size of 1,000 can show what it is good for, few enough that a
# size of 1 ends within some seconds.
SHAPES = {10e-6: 2_000, 1e-3: 1_000, 50e-3: 40}

burning = task(burn)


@dataclass(frozen=True)
class Sweep:
    """Seconds of every turn of each size, for one runner and one length of a task."""

    runner: str
    seconds: float
    count: int
    turns: dict[Size, list[float]]

    def median(self, size: Size) -> float:
        """Seconds that a map with this size took."""
        return statistics.median(self.turns[size])

    @property
    def best_fixed(self) -> Size:
        """The quickest size that is a number."""
        return min((size for size in self.turns if size != "auto"), key=self.median)

    def medians(self) -> dict[str, Any]:
        """What is kept of it: microseconds of a task, all told, for every size."""
        each = {str(size): self.median(size) / self.count * 1e6 for size in SIZES}
        return {"runner": self.runner, "seconds": self.seconds, "count": self.count, "medians": each}


@flow
def burn_in_batches(loops: int, count: int, size: Size) -> float:
    began = time.perf_counter()
    burning.map([loops] * count, batch_size=size).result()
    return time.perf_counter() - began


def sweep(name: str, seconds: float, count: int, rounds: int) -> Sweep:
    """Let the sizes take turns on the open engine's runner."""
    loops = loops_for(seconds)
    turns: dict[Size, list[float]] = {size: [] for size in SIZES}
    burn_in_batches(loops, count, "auto")
    for _ in range(rounds):
        for size in SIZES:
            turns[size].append(burn_in_batches(loops, count, size))
    return Sweep(name, seconds, count, turns)


def sweeps(small: bool) -> list[Sweep]:
    """Sweep every runner that has batches; a small sweep leaves out those that take seconds to start."""
    runners: dict[str, Runner] = {"process": ProcessPoolTaskRunner(WORKERS)}
    if not small:
        runners["Dask"] = DaskTaskRunner(cluster_kwargs={"n_workers": WORKERS, "threads_per_worker": 1})
        runners["Ray"] = RayTaskRunner(init_kwargs={"num_cpus": WORKERS})
    found = list[Sweep]()
    for name, runner in runners.items():
        with Engine(runner=runner):
            for seconds, count in SHAPES.items():
                found.append(sweep(name, seconds, count // 20 if small else count, 1 if small else measure.PAIRS))
    return found


def row(found: Sweep) -> measure.Row:
    """Compare auto with the best fixed size."""
    best = found.best_fixed
    ratios = [ours / fixed for ours, fixed in zip(found.turns["auto"], found.turns[best], strict=True)]
    floor, ours = found.median(best), found.median("auto")
    name = f"{found.runner} runner, auto, {found.count:,} x {found.seconds * 1e3:g} ms"
    per_task = 1e6 / found.count
    return measure.Row(
        name, f"batches of {best}", 1.2, ours / floor, min(ratios), max(ratios), "x", floor * per_task, ours * per_task
    )


def main() -> None:
    """Sweep, print, and write the figures, from which plots.py draws."""
    options = measure.arguments(__doc__)
    facts = measure.machine()
    found = sweeps(options.small)
    measure.finish([row(each) for each in found], facts, options.json, sweeps=[each.medians() for each in found])
    for each in found:
        medians = ", ".join(f"{size}: {median:,.0f}" for size, median in each.medians()["medians"].items())
        print(f"{each.runner} runner, {each.seconds * 1e3:g} ms, µs a task by size: {medians}")


if __name__ == "__main__":
    main()
