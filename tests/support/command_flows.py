"""Flows for the tests of the command line."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from penstock import flow, get_run_logger, task
from penstock.cache_policies import INPUTS
from penstock.runners import ProcessPoolTaskRunner


class Source(BaseModel):
    url: str
    pages: int = 1


@task(cache_policy=INPUTS)
def square(x: int) -> int:
    return x * x


@task(retries=1)
def shaky(x: int) -> int:
    if x == 3:
        raise ValueError("three is too many")
    return x


@task(cache_policy=INPUTS, cache_expiration=timedelta(microseconds=1))
def fleeting(x: int) -> str:
    return "gone " * x


@flow(tags=["nightly"])
def squares(n: int = 3) -> list[int]:
    get_run_logger().info("squaring %d numbers", n)
    print("this goes to standard output")
    fleeting(n)
    return square.map(range(n)).result()


@flow
def wobbly(n: int = 5) -> list[int]:
    futures = shaky.map(range(n))
    futures.wait()
    return futures.result()


@flow
def typed(
    day: date,
    source: Source | None = None,
    names: list[str] = [],  # noqa: B006 (as users write it)
    price: Decimal = Decimal(1),
    either: int | str = 0,
    maybe: str | None = "x",
    label: str = "",
    loud: bool = False,
    free=None,  # type: ignore[no-untyped-def]
) -> dict[str, Any]:
    return {name: repr(value) for name, value in locals().items()}


@flow
def keywords(first: int, /, **rest: float) -> dict[str, Any]:
    return {"first": first, **rest}


@task
def process_id() -> int:
    return os.getpid()


class Thing:
    """Something that only this script has."""

    def __init__(self, number: int) -> None:
        self.number = number


@task
def doubled(thing: Thing) -> Thing:
    return Thing(2 * thing.number)


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def elsewhere() -> list[Any]:
    thing = doubled.submit(Thing(21)).result()
    return [process_id.submit().result() != os.getpid(), thing.number, isinstance(thing, Thing)]


def halved(x: int) -> int:
    return x // 2


@flow
def pooled() -> list[int]:
    """Starts processes of its own, which look for its functions in the main module."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(halved, [2, 4])


def _say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


@flow
async def waiting(seconds: float = 60.0) -> None:
    try:
        get_run_logger().info("beginning to wait")
        _say("began")
        await asyncio.sleep(seconds)
    finally:
        _say("cleaned up")


@flow
def blocking(seconds: float = 60.0) -> None:
    """Is in one call that nothing but a signal ends."""
    _say("began")
    time.sleep(seconds)


@flow
def orderly(path: Path) -> None:
    """Says something every now and then, for those who follow its log, and ends when a file is there."""
    _say("began")
    while not path.exists():
        get_run_logger().info("still waiting")
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit("the command must not execute this")
