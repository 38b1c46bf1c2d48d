"""A process that forks drivers on demand: each runs a flow, or resumes it, until it has ended or somebody kills it.

Forking from a process that has imported everything makes two hundred kills a matter of seconds. One line of JSON in,
``{"folder": ..., "runner": ..., "generation": ..., "resume": ...}``, is answered by the driver's process id, which is
that driver's until an empty line asks to wait for it; the answer to that is how it ended.

What happens is written down by the tasks themselves, each line at once: in ``effects`` that a function was entered, in
``acks`` that somebody was told that it has completed; every line begins with the number of the driver.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from penstock import Engine, flow, task
from penstock.runners import (
    DaskTaskRunner,
    ProcessPoolTaskRunner,
    RayTaskRunner,
    SequentialTaskRunner,
    TaskRunner,
    ThreadPoolTaskRunner,
)

FOLDER: ContextVar[str] = ContextVar("FOLDER", default="")
GENERATION: ContextVar[int] = ContextVar("GENERATION", default=0)
PAUSE: ContextVar[float] = ContextVar("PAUSE", default=0.0)


def note(file: str, what: str) -> None:
    descriptor = os.open(Path(FOLDER.get()) / file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{GENERATION.get()} {what}\n".encode())
    os.close(descriptor)


def acknowledge(_: Any, run: Any, __: Any) -> None:
    note("acks", run.name)


def work(token: str) -> None:
    note("effects", token)
    time.sleep(PAUSE.get())  # the work itself: its length decides what a kill finds under way


@task(task_run_name="add-{a}-{b}", on_completion=[acknowledge])
def add(a: int, b: int) -> int:
    work(f"add-{a}-{b}")
    return a + b


@task(task_run_name="square-{n}", on_completion=[acknowledge])
def square(n: int) -> int:
    work(f"square-{n}")
    return n * n


@task(task_run_name="inner-{n}-{m}", on_completion=[acknowledge])
def inner(n: int, m: int) -> int:
    work(f"inner-{n}-{m}")
    return n + m


@flow
def inside(n: int) -> int:
    return inner(n, 1)


@task(task_run_name="outer-{n}", on_completion=[acknowledge])
def outer(n: int) -> int:
    work(f"outer-{n}")
    return inner(n, 0) * inside(n)


@flow
def sub(n: int) -> int:
    first = add(n, 100)
    return add(first, n)


@flow(persist_result=True)
def pipeline(items: int) -> int:
    first = add(1, 2)
    squares = square.map(range(items))
    nested = outer.submit(first)
    below = sub(5)
    return add(sum(squares.result()), nested.result() + below)


@flow(persist_result=True)
def three_tasks() -> int:
    return add(add(add(1, 2), 3), 4)


@task(task_run_name="asquare-{n}", on_completion=[acknowledge])
async def asquare(n: int) -> int:
    note("effects", f"asquare-{n}")
    await asyncio.sleep(PAUSE.get())
    return n * n


@flow(persist_result=True)
async def async_pipeline(items: int) -> int:
    first = add(1, 2)
    squares = await asyncio.gather(*(asquare(n) for n in range(items)))
    below = sub(5)
    return add(first + below, sum(squares))


RUNNERS: dict[str, Callable[[str], TaskRunner]] = {
    "sequential": lambda _: SequentialTaskRunner(),
    "threads": lambda _: ThreadPoolTaskRunner(4),
    "processes": lambda _: ProcessPoolTaskRunner(2),
    "dask": lambda address: DaskTaskRunner(address=address),
    "ray": lambda address: RayTaskRunner(address),
    "asyncio": lambda _: SequentialTaskRunner(),
}


def drive(order: dict[str, Any]) -> None:
    """Run or resume the flow, as ordered."""
    from penstock.history import History, resume

    folder = Path(order["folder"])
    FOLDER.set(str(folder))
    GENERATION.set(order["generation"])
    PAUSE.set(order.get("pause", 0.0))
    if order.get("mutant"):
        store_after_recording()
    if "gate" in order and order["generation"] == 0:
        os.read(os.open(order["gate"], os.O_RDWR), 1)  # blocks until somebody has written into it
    runner = RUNNERS[order["runner"]](order.get("address", ""))
    history = History(folder / "history.db", durability=order.get("durability", "fast"))
    with Engine(runner, history=history, results=folder / "results"):
        if order.get("resume"):
            resume(order["resume"])
        elif order["runner"] == "asyncio":
            asyncio.run(async_pipeline(order["items"]))
        elif order.get("flow") == "three_tasks":
            three_tasks()
        else:
            pipeline(order["items"])


def store_after_recording() -> None:
    """The wrong order: COMPLETED is recorded first, and the value stored afterwards."""
    from penstock import run as run_module
    from penstock.keeping import Keeper

    keep, take = Keeper.keep, run_module._take
    late: dict[Any, Any] = {}

    def keep_later(keeper: Keeper, value: Any) -> Any:
        held = keep(keeper, value)
        assert keeper.run.kept is not None
        reference = keeper.run.kept.reference
        keeper.store.delete(reference.key)
        late[keeper.run] = (keeper.store, value, reference.key)
        return held

    async def take_first(run: Any, *rest: Any) -> None:
        await take(run, *rest)
        if run in late:
            store, value, key = late.pop(run)
            store.write(value, key)

    Keeper.keep = keep_later  # type: ignore[method-assign]
    run_module._take = take_first  # type: ignore[assignment]


def import_what_a_driver_imports() -> None:
    """Run a flow in a child, and import here what it had imported in the end."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        with tempfile.TemporaryDirectory() as folder:
            drive({"folder": folder, "runner": "threads", "generation": 0, "items": 1})
        os.write(writing, "\n".join(sys.modules).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        for name in stream.read().split():
            importlib.import_module(name)
    os.wait()


def main() -> None:
    logging.getLogger("penstock").setLevel(logging.WARNING)
    import_what_a_driver_imports()
    while line := sys.stdin.readline():
        driver = os.fork()
        if driver == 0:
            drive(json.loads(line))
            os._exit(0)
        print(driver, flush=True)
        assert sys.stdin.readline() == "\n"
        print(os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
