"""What a task on Ray costs, beside the bare remote function in the same session.

python benchmarks/ray_runner.py [--small] [--json FILE]
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import measure
import ray
from fanout import WORKERS, identity, map_all, submit_all

from penstock import Engine
from penstock.runners import RayTaskRunner


def bare_remote(remote: Any, count: int) -> float:
    """Seconds that as many bare remote calls take."""
    began = time.perf_counter()
    ray.get([remote.remote(value) for value in range(count)])
    return time.perf_counter() - began


def rows(small: bool) -> list[measure.Row]:
    """Measure single submissions and maps in one session of two processors."""
    few, many = (50, 200) if small else (1_000, 10_000)
    compare = partial(measure.compare, small=small)
    with RayTaskRunner(init_kwargs={"num_cpus": WORKERS}) as runner, Engine(runner=runner):
        bare = partial(bare_remote, ray.remote(identity))
        return [
            compare(
                f"Ray runner, .submit, {few:,}",
                "f.remote + ray.get",
                1.25,
                partial(bare, few),
                partial(submit_all, few),
                tasks=few,
            ),
            compare(
                f"Ray runner, .map with auto batches, {many:,}",
                "f.remote + ray.get",
                0.1,
                partial(bare, many),
                partial(map_all, many),
                tasks=many,
            ),
            compare(
                f"Ray runner, .map with auto batches, {10 * many:,}",
                f"f.remote + ray.get of {many:,}",
                0.1,
                lambda: 10 * bare(many),
                partial(map_all, 10 * many),
                tasks=10 * many,
            ),
        ]


if __name__ == "__main__":
    measure.program(__doc__, rows)
