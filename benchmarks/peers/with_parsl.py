# /// script
# dependencies = ["parsl==2026.10.26", "numpy==2.4.6"]
# ///
"""Parsl with its thread executor, and with its high-throughput executor on local workers.

No monitoring, no usage tracking, no log files, no scaling strategy, no encryption. Large results are those of an app
with a checkpoint at its exit, which a second kernel loads and finds; they are not synced.
"""

from contextlib import contextmanager

import parsl
import work
from parsl import Config, python_app
from parsl.dataflow.memoization import BasicMemoizer
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.providers import LocalProvider


@contextmanager
def kernel(executor, **options):
    config = Config(executors=[executor], strategy="none", initialize_logging=False, **options)
    with parsl.load(config) as loaded:
        yield loaded
    parsl.clear()


@contextmanager
def mapped(function, executor):
    step = python_app(function)

    def run(items):
        futures = [step(item) for item in items]
        return [future.result() for future in futures]

    with kernel(executor):
        yield lambda items: work.timed(lambda: run(items))


def threads(function):
    return mapped(function, ThreadPoolExecutor(max_threads=work.WORKERS))


def processes(function):
    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=work.WORKERS,
        encrypted=False,
        prefetch_capacity=100,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    return mapped(function, executor)


@contextmanager
def large(folder):
    made = python_app(work.array, cache=True)

    def once(number):
        with kernel(
            ThreadPoolExecutor(max_threads=work.WORKERS),
            run_dir=str(folder / str(number)),
            memoizer=BasicMemoizer(checkpoint_mode="task_exit"),
        ):
            return made(number).result()

    def keep(number):
        once(number)
        return once(number)

    yield lambda number: work.timed(lambda: keep(number))


if __name__ == "__main__":
    work.program(["parsl"], {"threads": threads, "processes": processes}, fan_outs=["threads"], large=large)
