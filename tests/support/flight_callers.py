"""Callers of one key, as the engine calls: look, claim, look again, make, publish, release.

The value is a file made by rename; every execution of the body leaves a line in a log opened for appending, so that
the count of executions does not go through what is under test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from penstock_results.claims import Claims, DirectoryClaims, FsspecClaims
from penstock_results.locks import SingleFlight


class Folder:
    """Where one round's values and executions lie."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, key: str) -> str | None:
        try:
            return (self.path / f"{key}.value").read_text()
        except FileNotFoundError:
            return None

    def publish(self, key: str, value: str) -> None:
        temporary = self.path / uuid4().hex
        temporary.write_text(value)
        temporary.rename(self.path / f"{key}.value")

    def log(self, key: str) -> None:
        log = os.open(self.path / f"{key}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(log, b"%d\n" % os.getpid())
        os.close(log)

    def executions(self, key: str) -> list[int]:
        return [int(line) for line in (self.path / f"{key}.log").read_text().split()]


def fetch(flight: SingleFlight, folder: Folder, key: str, body: Callable[[], str]) -> str:
    """Get the key's value, blocking."""
    while True:
        value = folder.read(key)
        if value is not None:
            return value
        claim = flight.begin(key)
        if claim is None:
            assert flight.wait(key, timeout=60), "nobody finished"
            continue
        with claim:
            value = folder.read(key)
            if value is None:
                folder.log(key)
                value = body()
                claim.check()
                folder.publish(key, value)
            return value


async def fetch_async(flight: SingleFlight, folder: Folder, key: str, body: Callable[[], str]) -> str:
    """Get the key's value on an event loop."""
    loop = asyncio.get_running_loop()
    while True:
        value = folder.read(key)
        if value is not None:
            return value
        claim = flight.begin(key)
        if claim is None:
            free = asyncio.Event()
            flight.subscribe(key, lambda free=free: loop.call_soon_threadsafe(free.set))
            await asyncio.wait_for(free.wait(), 60)
            continue
        with claim:
            value = folder.read(key)
            if value is None:
                folder.log(key)
                await asyncio.sleep(0)
                value = body()
                claim.check()
                folder.publish(key, value)
            return value


def in_threads(count: int, call: Callable[[], str]) -> list[str]:
    """Call from many threads at the same moment; what they returned."""
    start, values = threading.Barrier(count), list[str]()

    def run() -> None:
        start.wait()
        values.append(call())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return values


def claims_in(folder: Folder, bucket: dict[str, Any] | None) -> Claims:
    """The folder's claims, or those in a bucket that is given as a root and the options of s3fs."""
    if bucket is None:
        return DirectoryClaims(folder.path / "claims")
    import s3fs

    return FsspecClaims(s3fs.S3FileSystem(**bucket["options"], skip_instance_cache=True), bucket["root"])


def call_in_process(path: str, key: str, kill: bool, bucket: dict[str, Any] | None) -> None:
    """25 callers in one process; if `kill`, the first of all processes to execute the body dies in it."""
    folder = Folder(Path(path))
    flight = SingleFlight(claims_in(folder, bucket), lease=5.0)

    def body() -> str:
        if kill and len(folder.executions(key)) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"made by {os.getpid()}"

    values = in_threads(25, lambda: fetch(flight, folder, key, body))
    assert values == [folder.read(key)] * 25


def round_of_processes(path: str, key: str, kill: bool, bucket: dict[str, Any] | None) -> list[int]:
    """Four processes of callers, forked from this one, which has a single thread; how they ended."""
    children = list[int]()
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                call_in_process(path, key, kill, bucket)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    # Arguments: a folder, a number of rounds and, for claims in a bucket, that as JSON.
    # The owner is killed in every other round.
    given = json.loads(sys.argv[3]) if len(sys.argv) > 3 else None
    if given is not None:
        import s3fs as s3fs  # before the forks, each of which would take a second for it
    for number in range(int(sys.argv[2])):
        ended = round_of_processes(sys.argv[1], f"key{number}", number % 2 == 1, given)
        print(json.dumps(sorted(ended)), flush=True)
