"""What a call costs on its way to a worker process and back, beside the standard pool.

python benchmarks/wire.py            full size
python benchmarks/wire.py --small    a fiftieth of it, for the test suite

The first table is processor time in this process, call by call, with no worker: it chose what the wire looks like.
The second is wall time through two workers. The third chose `pickling.OUT_OF_BAND`, the fourth `channel._READ`.
"""

from __future__ import annotations

import argparse
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from penstock_runners import channel, pickling, wire, worker
from penstock_runners.base import TaskRunner
from penstock_runners.probes import Reports, add, make_calls
from penstock_runners.processes import ProcessPoolTaskRunner


def stages(count: int) -> dict[str, float]:
    """Microseconds of processor time for each stage of a call."""
    calls = make_calls(add, [(number,) for number in range(count)])
    times = [time.process_time()]
    work = wire.pack_work(calls[0].work)
    batch, _, _ = wire.pack(calls, work.digest)
    times.append(time.process_time())
    home: list[bytes] = []
    worker.run_batch(batch, work, lambda index, packed: home.append(pickle.dumps((index, tuple(packed)), 5)))
    times.append(time.process_time())
    for message in home:
        wire.unpack_outcome(wire.PackedOutcome(*pickle.loads(message)[1]), "add")
    times.append(time.process_time())
    names = ("driver: pack", "worker: unpack, run, pack", "driver: unpack")
    return {name: (end - begin) / count * 1e6 for name, begin, end in zip(names, times, times[1:])}


def through(runner: TaskRunner, count: int, batch: int) -> float:
    """Microseconds of wall time for each call, submitted in batches of that size."""
    calls = make_calls(add, [(number,) for number in range(count)])
    reports = Reports()
    left, done = count, threading.Event()

    def report(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    warm = make_calls(add, [(0,)] * 2)
    runner.submit(warm[:1], reports)
    runner.submit(warm[1:], reports)
    reports.of(warm)
    began = time.perf_counter()
    for start in range(0, count, batch):
        runner.submit(calls[start : start + batch], report)
    done.wait()
    return (time.perf_counter() - began) / count * 1e6


def floor(count: int) -> float:
    """Microseconds of wall time for each call of the standard pool."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(add, range(4)))
        began = time.perf_counter()
        for future in [pool.submit(add, number) for number in range(count)]:
            future.result()
        return (time.perf_counter() - began) / count * 1e6


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Print the tables; return the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    count = 200 if parser.parse_args(arguments).small else 10_000
    figures = stages(count)
    bare = figures["ProcessPoolExecutor.submit"] = floor(count)
    with ProcessPoolTaskRunner(2) as runner:
        for batch in (1, 10, 100, 1000):
            figures[f"through the pool, batches of {batch}"] = through(runner, count, batch)
        for size in (4, 16, 64, 256, 1024):
            for limit, name in ((1 << 40, "in the stream"), (1, "a buffer of its own")):
                figures[f"{size} KiB array, {name}"] = arrays(runner, size, limit, count // 50)
        for read in (16, 64, 256, 1024):
            channel._READ = read * 1024
            figures[f"batches of 1000, reads of {read} KiB"] = through(runner, count, 1000)
    for name, figure in figures.items():
        print(f"{name:<44}{figure:>9.1f} us{figure / bare:>8.2f} of the standard pool's")
    return figures


def arrays(runner: TaskRunner, size: int, limit: int, count: int) -> float:
    """Microseconds for each array of that many KiB to go there and come back."""
    pickling.OUT_OF_BAND = limit
    calls = make_calls(add, [(np.zeros(size * 128),)] * count)
    reports = Reports()
    began = time.perf_counter()
    runner.submit(calls, reports)
    reports.of(calls)
    return (time.perf_counter() - began) / count * 1e6


if __name__ == "__main__":
    main()
