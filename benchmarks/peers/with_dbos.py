# /// script
# dependencies = ["dbos==3.4.0", "numpy==2.4.6"]
# ///
"""DBOS with its SQLite system database: every step and every workflow is durable, which costs what it costs.

Called: steps in a workflow. Async: the same, gathered. Threads: workflows in the background, which took less time than
on a queue. Large results are what a workflow returns, asked for again by the workflow's id.
"""

import asyncio
import time
from contextlib import contextmanager
from pathlib import Path

import work
from dbos import DBOS

CONFIG = {"name": "bench", "system_database_url": f"sqlite:///{Path.cwd() / 'dbos.sqlite'}", "log_level": "ERROR"}


@contextmanager
def launched():
    DBOS(config=CONFIG)
    DBOS.launch()
    yield
    DBOS.destroy()


@contextmanager
def called(function):
    step = DBOS.step(name="step")(function)

    @DBOS.workflow()
    def run(items):
        return work.timed(lambda: [step(item) for item in items])

    with launched():
        yield run


@contextmanager
def on_loop(function):
    @DBOS.step()
    async def step(item):
        return function(item)

    @DBOS.workflow()
    async def run(items):
        began = time.perf_counter()
        values = await asyncio.gather(*[step(item) for item in items])
        return time.perf_counter() - began, values

    with launched(), asyncio.Runner() as runner:
        yield lambda items: runner.run(run(items))


@contextmanager
def threads(function):
    child = DBOS.workflow(name="child")(function)

    def run(items):
        handles = [DBOS.start_workflow(child, item) for item in items]
        return [handle.get_result() for handle in handles]

    with launched():
        yield lambda items: work.timed(lambda: run(items))


@contextmanager
def large(folder):
    made = DBOS.workflow(name="made")(work.array)

    def keep(number):
        handle = DBOS.start_workflow(made, number)
        handle.get_result()
        return DBOS.retrieve_workflow(handle.get_workflow_id()).get_result()

    with launched():
        yield lambda number: work.timed(lambda: keep(number))


if __name__ == "__main__":
    work.program(["dbos"], {"called": called, "async": on_loop, "threads": threads}, fan_outs=["threads"], large=large)
