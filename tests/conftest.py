"""What every test gets: a home that is not the user's, and a look at what it leaves behind."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from postgres import postgresql_server as postgresql_server
from postgres import postgresql_url as postgresql_url

from penstock import engine as engine_module
from penstock.testing import penstock_engine as penstock_engine
from penstock.testing import wait_until

KEPT_PROCESSES = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "postgres: ", "penstock-postgres-")
"""Processes that the standard library starts once and keeps, and the tests' PostgreSQL server."""

KEPT = ("penstock-timers", "penstock-loop", "penstock-events", "asyncio_", "pytest_timeout", "Dask-Offload")
"""Threads that belong to the process and not to a test: the engine's own, its loop's default executor, and Dask's."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers that the checks below know, and hear Ctrl-C, which a shell's background jobs ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "leaks(why): the test may leave threads and processes behind")


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PENSTOCK_HOME", str(home))
    monkeypatch.setenv("PENSTOCK_HISTORY", "none")
    return home


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves threads or child processes; a marker ``leaks("why")`` excuses it."""
    threads, children = set(threading.enumerate()), _children()
    yield
    if request.node.get_closest_marker("leaks"):
        return
    if names := [thread.name for thread in _extra_threads(threads)]:
        gc.collect()
        wait_until(lambda: not _extra_threads(threads), f"threads to end: {names}", 5.0)
    _, alive = psutil.wait_procs(_children() - children, 5.0)
    assert not alive, f"processes left behind: {alive}"


def _children() -> set[psutil.Process]:
    return {child for child in psutil.Process().children(recursive=True) if not _is_kept(child)}


def _is_kept(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    return any(name in command for name in KEPT_PROCESSES)


def _extra_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    default = engine_module._default
    runner = default._opened if default is not None else None
    pool = set(getattr(runner, "_threads", ()))
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread not in pool and not thread.name.startswith(KEPT)
    ]
