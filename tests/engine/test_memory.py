"""Memory stays flat: what nobody holds any more is gone, and a stream holds its window."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock import flow, task
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner

MB = 1 << 20


class Block:
    """A megabyte that can be watched."""

    alive: weakref.WeakSet[Block] = weakref.WeakSet()

    def __init__(self) -> None:
        self.bytes = bytearray(MB)
        Block.alive.add(self)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """pytest keeps every log record; that is its memory and not ours."""
    caplog.set_level(logging.WARNING, "penstock")


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner(4), SequentialTaskRunner()])
def test_dropped_results_of_sync_tasks_are_gone(runner: Any) -> None:
    @task(retries=2)
    def make() -> Block:
        return Block()

    @flow(task_runner=runner)
    def main() -> int:
        before = _resident()
        for _ in range(10_000 // 10):
            for future in [make.submit() for _ in range(10)]:
                assert len(future.result().bytes) == MB
        del future
        return _resident() - before

    assert main() <= 50 * MB
    gc.collect()
    assert not Block.alive


async def test_dropped_results_of_async_tasks_are_gone() -> None:
    @task
    async def make() -> Block:
        await asyncio.sleep(0)
        return Block()

    @flow
    async def main() -> int:
        before = _resident()
        for _ in range(10_000 // 10):
            for future in [make.submit() for _ in range(10)]:
                assert len((await future).bytes) == MB
        del future
        return _resident() - before

    assert await main() <= 50 * MB
    gc.collect()
    assert not Block.alive


STREAM = Path(__file__).parents[1] / "support" / "stream.py"


def _peak(kind: str, items: int) -> int:
    """Peak resident bytes of a fresh process that streams so many items."""
    answer = subprocess.run(
        [sys.executable, str(STREAM), kind, str(items)], capture_output=True, text=True, check=True, timeout=600
    )
    return int(answer.stdout)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_holds_its_window_and_not_its_input(kind: str) -> None:
    assert _peak(kind, 100_000) - _peak(kind, 10_000) < 8 * MB


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_of_a_million_items_needs_no_more_memory_than_a_short_one(kind: str) -> None:
    assert _peak(kind, 1_000_000) - _peak(kind, 20_000) < 8 * MB


def test_a_service_that_runs_flow_after_flow_does_not_grow() -> None:
    # 8 MB over 18,000 flows would be some 450 bytes for each: less than any record that stays behind.
    assert _peak("service", 20_000) - _peak("service", 2_000) < 8 * MB


LATE = """
import gc, logging, threading
from penstock import Engine, flow, task
from penstock.runners import ThreadPoolTaskRunner

logging.getLogger("penstock").setLevel(logging.WARNING)
begun = threading.Event()

@task
def work(number):
    begun.wait(30)

@flow
def main():
    futures = work.map(range(2_000))
    begun.set()
    futures.wait()
    gc.collect()
    return sum(type(found) is dict and "definition" in found and "scope" in found for found in gc.get_objects())

with Engine(ThreadPoolTaskRunner(1), history=None):
    print(main())
"""


def test_runs_that_begin_after_thousands_were_made_carry_no_dictionary_of_their_own() -> None:
    # As on the process runner, whose workers take their time to start. Only a fresh process has not made any before.
    answer = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True, timeout=60)
    assert int(answer.stdout) < 20
