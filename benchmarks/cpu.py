"""How much of two processors reaches the user's function, on every runner with workers of its own.

python benchmarks/cpu.py [--small] [--json FILE]

The ideal is half of the serial time, as two bare processes that burn at the same time really take it: two busy
processors of one machine are slower than one.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import measure
from peers.work import WORKERS, bare, burn, loops_for

from penstock import Engine, flow, task
from penstock.runners import DaskTaskRunner, ProcessPoolTaskRunner, RayTaskRunner, TaskRunner

FLOOR = "two bare processes"
burning = task(burn)


@flow
def burn_in_parallel(loops: int, count: int) -> float:
    began = time.perf_counter()
    burning.map([loops] * count).result()
    return time.perf_counter() - began


def rows(small: bool) -> list[measure.Row]:
    """Measure many short and fewer long tasks on each runner, beside the same two bare processes.

    A small run leaves out the runners that take seconds to start.
    """
    runners: dict[str, TaskRunner] = {"process": ProcessPoolTaskRunner(WORKERS)}
    if not small:
        runners["Dask"] = DaskTaskRunner(cluster_kwargs={"n_workers": WORKERS, "threads_per_worker": 1})
        runners["Ray"] = RayTaskRunner(init_kwargs={"num_cpus": WORKERS})
    shapes = [(0.001, 20), (0.02, 4)] if small else [(0.001, 2_000), (0.02, 200)]
    found = list[measure.Row]()
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, runner in runners.items():
            with runner, Engine(runner=runner):
                for seconds, count in shapes:
                    loops = loops_for(seconds)
                    found.append(
                        measure.compare(
                            f"{name} runner, {count:,} x {seconds * 1e3:g} ms on {WORKERS} workers",
                            FLOOR,
                            1.15,
                            partial(bare, pool, loops, count),
                            partial(burn_in_parallel, loops, count),
                            tasks=count,
                            small=small,
                        )
                    )
    return found


if __name__ == "__main__":
    measure.program(__doc__, rows)
