"""The testing kit: an engine of a test's own, time that a test moves, faults with names, and the conformance suites.

``RunnerTests``, ``ResultStoreTests`` and ``HistoryTests`` are test classes for runners, stores and histories that
others write; they and the pytest fixture ``penstock_engine`` are imported when first asked for, because they need
pytest.
"""

from __future__ import annotations

import os
import time  # noqa: TID251 (other processes take real time)
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from penstock.engine import Engine
from penstock.faults import FaultyRunner
from penstock.ports import Clock, Runner, Sink
from penstock.virtual_clock import VirtualClock

__all__ = ("FaultyRunner", "VirtualClock", "penstock_test_harness", "wait_until")

_LAZY = {
    "RunnerTests": "penstock_runners.testing",
    "ResultStoreTests": "penstock_results.testing",
    "HistoryTests": "penstock_history.testing.suite",
    "penstock_engine": "penstock.pytest_plugin",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'penstock.testing' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


@contextmanager
def penstock_test_harness(
    runner: Runner | type[Runner] | None = None,
    *,
    clock: Clock | None = None,
    sinks: Sequence[Sink] = (),
    grace: float = 2.0,
) -> Generator[Engine, None, None]:
    """An engine for the block, with a home of its own that is gone afterwards; no network, no subprocess.

    Args:
        runner: Where submitted tasks execute; a thread pool by default.
        clock: Where time comes from, for example a `VirtualClock`.
        sinks: Who wants every transition.
        grace: Seconds that runs which are still going at the end of the block get.
    """
    with (
        TemporaryDirectory(prefix="penstock-test-") as home,
        _environment({"PENSTOCK_HOME": home, "PENSTOCK_HISTORY": "none"}),
        Engine(runner, clock=clock, sinks=sinks, grace=grace) as engine,
    ):
        yield engine


def wait_until(condition: Callable[[], bool], what: str, within: float = 60.0) -> None:
    """Wait for what happens in another process, which has no event that this one could wait for.

    Args:
        condition: Whether it has happened; asked every 5 ms.
        what: What is waited for, for the message.
        within: Seconds after which it will not happen any more.

    Raises:
        AssertionError: It has not happened in time.
    """
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within:g} s in vain for {what}"
        time.sleep(0.005)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Generator[None, None, None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
