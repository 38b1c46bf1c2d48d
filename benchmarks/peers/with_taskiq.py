# /// script
# dependencies = ["taskiq==0.13.0", "numpy==2.4.6"]
# ///
"""taskiq with its in-memory broker, and all results kept until they are asked for.

Asynchronous tasks run on the loop, synchronous ones on the broker's threads. Its other brokers need a server of their
own. Results live in the broker only, so there is none to be kept and read back.
"""

import asyncio
import time
from contextlib import contextmanager

import work
from taskiq import InMemoryBroker


@contextmanager
def broker(define):
    broker = InMemoryBroker(sync_tasks_pool_size=work.WORKERS, max_stored_results=-1)
    step = define(broker)

    async def gather(items):
        began = time.perf_counter()
        tasks = [await step.kiq(item) for item in items]
        await broker.wait_all()
        results = [await task.get_result() for task in tasks]
        return time.perf_counter() - began, [result.return_value for result in results]

    with asyncio.Runner() as runner:
        runner.run(broker.startup())
        yield lambda items: runner.run(gather(items))
        runner.run(broker.shutdown())


def on_loop(function):
    async def step(item):
        return function(item)

    return broker(lambda broker: broker.task(task_name="step")(step))


def threads(function):
    return broker(lambda broker: broker.task(task_name="step")(function))


if __name__ == "__main__":
    work.program(["taskiq"], {"async": on_loop, "threads": threads}, fan_outs=["async"])
