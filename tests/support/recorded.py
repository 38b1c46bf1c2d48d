"""A program that records what it does, for tests that kill, stop and fork it.

python recorded.py KIND FOLDER

Each task appends its name to the file ``effects`` when it is executed; the name is printed when the end of the task has
been acknowledged. Other words on standard output say how far the program is.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

from penstock import Engine, flow, task
from penstock.history import History
from penstock.runners import ThreadPoolTaskRunner

KIND, FOLDER = sys.argv[1], Path(sys.argv[2])
EFFECTS = os.open(FOLDER / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
FILE = FOLDER / "history.db"


def say(word: str) -> None:
    """One write, so that it is there or not, whatever happens next."""
    os.write(1, f"{word}\n".encode())


def effect(name: str) -> None:
    os.write(EFFECTS, f"{name}\n".encode())


@task(task_run_name="step-{number}")
def step(number: int) -> int:
    effect(f"step-{number}")
    return number


@task(task_run_name="step-{number}")
async def async_step(number: int) -> int:
    effect(f"step-{number}")
    return number


@task(task_run_name="step-{number}", persist_result=True, result_storage=FOLDER / "results")
def kept_step(number: int) -> int:
    effect(f"step-{number}")
    return number


@flow
def inline() -> None:
    for number in range(1_000_000):
        step(number)
        say(f"step-{number}")


@flow
def kept() -> None:
    for number in range(1_000_000):
        kept_step(number)
        say(f"step-{number}")


@flow
def threads() -> None:
    for begin in range(0, 1_000_000, 20):
        for future in [step.submit(number) for number in range(begin, begin + 20)]:
            say(f"step-{future.result()}")


@flow
async def loop() -> None:
    for begin in range(0, 1_000_000, 20):
        for future in [async_step.submit(number) for number in range(begin, begin + 20)]:
            say(f"step-{await future}")


@flow
async def blocked() -> None:
    """The loop stands still, then no other thread gets the interpreter's lock either; each until a line comes."""
    say("began")
    os.read(0, 1)
    say("holds the lock")
    ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)
    await async_step(1)


@flow
async def stopped() -> None:
    say("began")
    await asyncio.to_thread(os.read, 0, 1)  # it is in here that the process is stopped
    await async_step(1)


@flow
def busy() -> None:
    say("began")
    signal.pause()


@flow
def forking() -> None:
    """The child records runs of its own, and none of its parent's."""
    step(1)
    child = os.fork()
    if child == 0:
        in_child()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    step(2)


def in_child() -> None:
    step(3)  # part of the flow of the parent, who does not know of it
    with Engine(history=FILE) as engine:
        engine.start(child_flow).result(10)


@flow(name="child")
def child_flow() -> None:
    step(4)


@flow
def leaving() -> None:
    step(1)
    say("step-1")


@flow
def interrupted() -> None:
    step(1)
    say("began")
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("it went on")


def main() -> None:
    """Run one of the flows above, and end in one of several ways."""
    if KIND in ("inline", "threads"):
        with Engine(ThreadPoolTaskRunner(max_workers=2), history=History(FILE, "full")):
            globals()[KIND]()
    elif KIND in ("loop", "blocked", "stopped"):

        async def with_engine() -> None:
            async with Engine(history=History(FILE, "full" if KIND == "loop" else "fast")):
                await globals()[KIND]()

        asyncio.run(with_engine())
    elif KIND in ("kept", "busy", "forking"):
        with Engine(history=History(FILE, "fast")):
            globals()[KIND]()
    elif KIND == "interrupted":
        interrupted()
    else:
        leaving()
        {"ends": lambda: None, "exits": lambda: sys.exit(3), "raises": lambda: 1 / 0, "vanishes": lambda: os._exit(0)}[
            KIND
        ]()
    say("ended")


if __name__ == "__main__":
    main()
