# /// script
# dependencies = [
#     "sf-hamilton==1.90.0", "dask==2026.8.0", "distributed==2026.8.0", "ray==2.60.0", "numpy==2.4.6",
#     "pyarrow==26.0.1",
# ]
# ///
"""Hamilton: `Parallelizable` and `Collect` on its executors; called, a graph with a node for every item.

The graph is built beforehand. It keeps no states and does not retry. Large results are those of a node under its
cache on a local folder, executed twice; they are not synced.
"""

from contextlib import contextmanager

import hamilton_nodes
import work
from hamilton import ad_hoc_utils, driver
from hamilton.execution.executors import MultiProcessingExecutor, MultiThreadingExecutor, SynchronousLocalTaskExecutor


def module(*functions):
    return ad_hoc_utils.create_temporary_module(*functions)


@contextmanager
def called(function):
    def node(number):
        def made(items: list) -> int:
            return function(items[number])

        made.__name__ = f"value_{number}"
        return made

    built = {}

    def run(items):
        if len(items) not in built:
            nodes = [node(number) for number in range(len(items))]
            graph = driver.Builder().with_modules(module(*nodes)).build()
            built[len(items)] = graph, [made.__name__ for made in nodes]
        graph, names = built[len(items)]
        return work.timed(lambda: list(graph.execute(names, inputs={"items": items}).values()))

    yield run


@contextmanager
def mapped(function, executor):
    name = {work.identity: "sames", work.burn: "burnts"}[function]
    graph = (
        driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(hamilton_nodes)
        .with_local_executor(SynchronousLocalTaskExecutor())
        .with_remote_executor(executor)
        .build()
    )
    yield lambda items: work.timed(lambda: graph.execute([name], inputs={"items": items})[name])


def threads(function):
    return mapped(function, MultiThreadingExecutor(max_tasks=work.WORKERS))


def processes(function):
    return mapped(function, MultiProcessingExecutor(max_tasks=work.WORKERS))


@contextmanager
def on_dask(function):
    from hamilton.plugins.h_dask import DaskExecutor

    with work.dask_client() as client, mapped(function, DaskExecutor(client=client)) as run:
        yield run


@contextmanager
def on_ray(function):
    from hamilton.plugins.h_ray import RayTaskExecutor

    with work.ray_session(), mapped(function, RayTaskExecutor(skip_init=True)) as run:
        yield run


@contextmanager
def large(folder):
    def made(number: int) -> object:
        return work.array(number)

    def keep(number):
        for _ in range(2):  # a driver of its own each time, so that what is found was read
            graph = driver.Builder().with_modules(module(made)).with_cache(path=str(folder)).build()
            value = graph.execute(["made"], inputs={"number": number})["made"]
        return value

    yield lambda number: work.timed(lambda: keep(number))


if __name__ == "__main__":
    work.program(
        ["sf-hamilton", "dask", "ray"],
        {"called": called, "threads": threads, "processes": processes, "dask": on_dask, "ray": on_ray},
        fan_outs=["threads"],
        large=large,
    )
