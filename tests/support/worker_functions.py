"""Functions that tests send to worker processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from penstock.testing import wait_until
from penstock_runners.probes import entries, note

initialized: list[object] = []


def initialize(value: object) -> None:
    initialized.append(value)


def fail_to_initialize() -> None:
    raise LookupError("no such model")


def what_was_initialized() -> list[object]:
    return initialized


def pid(_: object = None) -> int:
    return os.getpid()


def segfault() -> None:
    ctypes.string_at(0)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def stop_self(file: Path) -> str:
    note(file, os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    note(file, "woken")
    return "woken"


def wake(file: Path) -> None:
    """On the driver: let the worker go on that `stop_self` stops."""
    wait_until(lambda: bool(entries(file)), "the call to be entered")
    worker = psutil.Process(int(entries(file)[0]))
    wait_until(lambda: worker.status() == psutil.STATUS_STOPPED, "the worker to stop")
    worker.resume()


def hold_the_interpreter(seconds: float) -> str:
    """Sleep without letting any other thread of the worker run."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return "done"


def start_child(file: Path) -> None:
    """Start a process, say which, and never end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(file, child.pid)
    time.sleep(600)


def sleep_noting(file: Path) -> None:
    note(file, os.getpid())
    time.sleep(600)


async def sleep_cleaning_up(file: Path) -> None:
    try:
        await asyncio.sleep(600)
    finally:
        note(file, "cleaned")


async def block_the_loop(release: Path) -> None:
    wait_until(release.exists, "the release")


def log_twice(first: str, second: str, between: Path) -> None:
    from logging import getLogger

    getLogger("penstock.task_runs").warning(first)
    wait_until(between.exists, "the driver to have seen the first line")
    getLogger("penstock.task_runs").warning(second)


def log_from_thread(text: str) -> None:
    from contextvars import copy_context
    from logging import getLogger

    thread = threading.Thread(target=copy_context().run, args=(getLogger("penstock.task_runs").warning, text))
    thread.start()
    thread.join()


def sum_of(array: object) -> float:
    return float(array.sum())  # type: ignore[attr-defined]


def double(array: object) -> object:
    array *= 2  # type: ignore[operator]
    return array


def close_all_files() -> None:
    os.closerange(3, 65536)
    time.sleep(600)
