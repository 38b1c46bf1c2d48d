"""The eight cells, made to order; as a script it runs them all."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
from collections.abc import Callable
from typing import Any

from penstock import flow, task
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner

Cell = tuple[str, str, str]

CELLS: list[Cell] = list(itertools.product(("sync", "async"), ("sync", "async"), ("call", "submit")))
RUNNERS = ("threads", "sequential")


def name_of(cell: Cell) -> str:
    return "{}-flow-{}-task-{}".format(*cell)


@task
def sync_task(number: int) -> int:
    return number + 1


@task
async def async_task(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


def make(cell: Cell, runner: str) -> Callable[[int], Any]:
    """A flow that runs a task as the cell says; calling it gives 1 more, or a coroutine for it."""
    flow_colour, task_colour, how = cell
    work: Any = sync_task if task_colour == "sync" else async_task
    task_runner: Any = {"threads": ThreadPoolTaskRunner(2), "sequential": SequentialTaskRunner()}[runner]

    def body(number: int) -> int:
        return work(number) if how == "call" else work.submit(number).result()

    async def async_body(number: int) -> int:
        if how == "submit":
            return await work.submit(number)
        answer = work(number)
        return await answer if inspect.isawaitable(answer) else answer

    chosen: Any = async_body if flow_colour == "async" else body
    return flow(task_runner=task_runner)(chosen)


def main(runner: str) -> None:
    for cell in CELLS:
        answer = make(cell, runner)(1)
        print(asyncio.run(answer) if inspect.isawaitable(answer) else answer)


if __name__ == "__main__":
    main(sys.argv[1])
