"""What a map over worker processes costs, beside one bare submission for each item.

python benchmarks/processes.py [--small] [--json FILE]
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import measure
from fanout import WORKERS, bare_submit, map_all, submit_all

from penstock import Engine
from penstock.runners import ProcessPoolTaskRunner

FLOOR = "ProcessPoolExecutor.submit + result"


def rows(small: bool) -> list[measure.Row]:
    """Measure maps of both sizes and single submissions, on pools whose workers are up."""
    few, many = (200, 400) if small else (10_000, 100_000)
    spawn = multiprocessing.get_context("spawn")
    compare = partial(measure.compare, small=small)
    with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool, Engine(runner=ProcessPoolTaskRunner(WORKERS)):
        bare = partial(bare_submit, pool)
        name = "process runner, .map with auto batches"
        return [
            compare(f"{name}, {few:,}", FLOOR, 0.4, partial(bare, few), partial(map_all, few), tasks=few),
            compare(f"{name}, {many:,}", FLOOR, 0.4, partial(bare, many), partial(map_all, many), tasks=many),
            compare("process runner, .submit", FLOOR, None, partial(bare, few), partial(submit_all, few), tasks=few),
        ]


if __name__ == "__main__":
    measure.program(__doc__, rows)
