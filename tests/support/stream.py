"""Streams items through tasks, or runs flow after flow, and prints the process's peak of resident bytes."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import Iterator

from penstock import flow, task

logging.getLogger("penstock").setLevel(logging.WARNING)


@task
def double(number: int) -> int:
    return 2 * number


@task
async def async_double(number: int) -> int:
    return 2 * number


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@flow
def sync_stream(count: int) -> int:
    return sum(double.map_iter(numbers(count)))


@flow
async def async_stream(count: int) -> int:
    total = 0
    async for value in async_double.map_iter(numbers(count)):
        total += value
    return total


@flow
async def request(number: int) -> int:
    return await async_double(number) + await double.submit(number)


async def service(count: int) -> None:
    for number in range(count):
        assert await request(number) == 4 * number


def main(kind: str, count: int) -> None:
    if kind == "service":
        asyncio.run(service(count))
    else:
        total = sync_stream(count) if kind == "sync" else asyncio.run(async_stream(count))
        assert total == count * (count - 1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
