"""Whether a task of 100,000 costs what a task of 10,000 costs, on every runner of this process.

python benchmarks/scaling.py [--small] [--json FILE]
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import measure
from direct import sync_flow, sync_noop
from fanout import async_map, map_all

from penstock import Engine
from penstock.ports import Runner
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner


def on_loop(count: int) -> float:
    """Seconds of an async map."""
    return asyncio.run(async_map(count))


def called(count: int) -> float:
    """Seconds of as many direct calls."""
    return sync_flow(sync_noop, 1, count)


WAYS: dict[str, tuple[Runner, Callable[[int], float]]] = {
    "direct calls": (SequentialTaskRunner(), called),
    "async .map": (SequentialTaskRunner(), on_loop),
    ".map, sequential": (SequentialTaskRunner(), map_all),
    ".map on threads": (ThreadPoolTaskRunner(max_workers=2), map_all),
}


def rows(small: bool) -> list[measure.Row]:
    """Measure each way at both sizes, as seconds for the larger number of tasks."""
    few, many = (200, 2_000) if small else (10_000, 100_000)
    found = list[measure.Row]()
    for name, (runner, run) in WAYS.items():
        with Engine(runner=runner):
            found.append(
                measure.compare(
                    f"{name}, {many:,} tasks",
                    f"{few:,} tasks",
                    1.2,
                    lambda: run(few) * many / few,  # noqa: B023 (called at once)
                    lambda: run(many),  # noqa: B023 (called at once)
                    tasks=many,
                    small=small,
                )
            )
    return found


if __name__ == "__main__":
    measure.program(__doc__, rows)
