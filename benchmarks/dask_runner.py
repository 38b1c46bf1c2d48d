"""What a task on Dask costs, beside the bare client on the same cluster.

python benchmarks/dask_runner.py [--small] [--json FILE]
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import measure
from distributed import Client, LocalCluster
from fanout import WORKERS, identity, map_all, submit_all

from penstock import Engine
from penstock.runners import DaskTaskRunner


def bare_submit(client: Any, count: int) -> float:
    """Seconds that as many bare submissions take."""
    began = time.perf_counter()
    client.gather([client.submit(identity, value, pure=False) for value in range(count)])
    return time.perf_counter() - began


def bare_map(client: Any, count: int) -> float:
    """Seconds that the client's own map takes."""
    began = time.perf_counter()
    client.gather(client.map(identity, range(count), pure=False))
    return time.perf_counter() - began


def rows(small: bool) -> list[measure.Row]:
    """Measure single submissions and maps on one cluster of two worker processes."""
    few, many = (50, 200) if small else (1_000, 10_000)
    compare = partial(measure.compare, small=small)
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        Engine(runner=DaskTaskRunner(cluster=cluster)),
    ):
        return [
            compare(
                f"Dask runner, .submit, {few:,}",
                "client.submit + gather",
                1.15,
                partial(bare_submit, client, few),
                partial(submit_all, few),
                tasks=few,
            ),
            compare(
                f"Dask runner, .map with auto batches, {many:,}",
                "client.map + gather",
                0.06,
                partial(bare_map, client, many),
                partial(map_all, many),
                tasks=many,
            ),
            # Ten times as many would take the bare client minutes, and more of each than these.
            compare(
                f"Dask runner, .map with auto batches, {10 * many:,}",
                f"client.map + gather of {many:,}",
                0.06,
                lambda: 10 * bare_map(client, many),
                partial(map_all, 10 * many),
                tasks=10 * many,
            ),
        ]


if __name__ == "__main__":
    measure.program(__doc__, rows)
