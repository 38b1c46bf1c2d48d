"""Threads for what blocks: no more than allowed, used again, and gone when there is nothing to do."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from penstock import Engine, flow, task
from penstock.brief_threads import IO_THREADS, BriefThreads
from penstock.testing import wait_until

WATCHDOG = 30.0


def alive(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_as_many_jobs_at_once_as_allowed_and_then_the_others() -> None:
    threads = BriefThreads("test-three", 3)
    together, ended, seen = threading.Barrier(3), threading.Semaphore(0), set[int]()

    def job() -> None:
        together.wait(WATCHDOG)
        seen.add(threading.get_ident())
        ended.release()

    for _ in range(9):
        threads.run(job)
    assert alive("test-three") == 3
    for _ in range(9):
        assert ended.acquire(timeout=WATCHDOG)
    assert len(seen) == 3
    wait_until(lambda: alive("test-three") == 0, "the end of the threads")


def test_a_thread_that_has_nothing_to_do_takes_the_next_job() -> None:
    threads = BriefThreads("test-again", 5)
    seen = set[int]()
    for _ in range(3):
        ended = threading.Event()
        threads.run(lambda ended=ended: (seen.add(threading.get_ident()), ended.set()))
        assert ended.wait(WATCHDOG)
        wait_until(lambda: threads._idle == 1, "the thread to be idle")
    assert len(seen) == 1


def test_what_a_job_held_is_let_go_of_while_its_thread_waits() -> None:
    threads = BriefThreads("test-held", 1)
    gone = threading.Event()

    class Held:
        def __call__(self) -> None: ...
        def __del__(self) -> None:
            gone.set()

    threads.run(Held())
    assert gone.wait(0.5), "sooner than the thread ends by itself"


def test_a_forked_process_has_threads_of_its_own() -> None:
    ended = threading.Event()
    IO_THREADS.run(ended.set)
    assert ended.wait(WATCHDOG)
    child = os.fork()
    if child == 0:
        again = threading.Event()
        IO_THREADS.run(again.set)
        os._exit(0 if again.wait(WATCHDOG) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_many_stored_results_of_an_async_flow_share_a_few_threads(tmp_path: Path) -> None:
    most = list[int]()

    def key(_: object, parameters: dict[str, int]) -> str:
        most.append(alive("penstock-io"))
        return f"key-{parameters['value']}"

    @task(cache_key_fn=key)
    async def same(value: int) -> int:
        return value

    @flow
    async def main() -> list[int]:
        return await same.map(range(300))

    with Engine(results=tmp_path):
        assert asyncio.run(main()) == list(range(300))
    assert len(most) == 300
    assert 1 < max(most) <= 32
    wait_until(lambda: alive("penstock-io") == 0, "the end of the threads")
