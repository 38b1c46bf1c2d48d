"""The runner's contract.

A runner executes attempts and knows nothing else: states, retries, caching, dependencies and hooks stay with the
engine. It is handed *calls* in batches and brings home one *outcome* for each.

The rules, which `penstock.testing.RunnerTests` checks:

1. Every call that `submit` accepted is reported exactly once: succeeded, failed, timed out, crashed or cancelled.
   Never zero times, whatever happens to workers, and never twice: a late outcome is dropped.
2. `submit` returns without waiting for the calls, and `report` may be called from any thread, also before `submit`
   has returned. Items of one batch are reported as they end, not together.
3. A fault of one call (an argument that cannot travel, a function that raises, a worker that dies under it) is that
   call's outcome and nobody else's. `submit` itself raises only `RunnerClosed`.
4. A call whose ``work.timeout`` passes is reported with `TimedOut` on time, counted from when its function was
   entered. If the function cannot be stopped it keeps counting against `capacity` until it really ends.
5. Nothing runs twice: a runner never repeats a call on its own, and switches off whatever in its backend would.
6. After `cancel` returned True the call's function will never be entered. A call that had not been entered is
   reported with `Cancelled` as its error.
7. What the runner was handed (a client, a cluster, a session) it leaves as it was; what it started is gone when
   `close` returns, or within ten seconds of the death of this process.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import ClassVar, Literal, Self

from penstock.clock import SystemClock
from penstock.errors import ConfigurationError, RunnerClosed
from penstock.ports import Call, Clock, LogLine, Reference, Report

__all__ = ("TaskRunner", "check_workers", "default_workers")


class TaskRunner(ABC):
    """Where attempts execute; see the module's docstring for the rules.

    A runner object is a description until it is opened. The engine opens a runner before its first call and closes
    it at the end of the scope that named it; used as a context manager, the ``with`` block is that scope.

    Attributes:
        remote: Whether calls leave this process. If so, arguments and values must be picklable, and async functions
            run on the worker; if not, the engine keeps async functions on an event loop and never submits them.
        ordered: Whether what one run submits executes one after the other, in the order of submission.
        batches: Whether a submission costs enough for the engine to gather several calls into one.
        batch_size: How many calls travel together where neither the task nor the map says.
        batch_seconds: How long a batch lasts that ``"auto"`` makes: long enough to pay for its trip, short enough to
            share work out (benchmarks/batching.py).
    """

    remote: ClassVar[bool] = False
    batches: ClassVar[bool] = False
    batch_size: int | Literal["auto"] = "auto"
    batch_seconds: float = 0.05
    ordered: ClassVar[bool] = False

    on_line: Callable[[Call, LogLine], None] | None = None
    """Takes the log lines of running calls as they are made; set before `open`. Without it they come at the end."""

    _clock: Clock | None = None

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many attempts can run at the same time."""

    @abstractmethod
    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Start the calls as soon as there is room, and report each.

        Args:
            calls: At least one call. All calls of one submission share their ``work``.
            report: Where to bring each outcome.

        Raises:
            RunnerClosed: If the runner is not open; no call was accepted.
        """

    def cancel(self, call: Call) -> bool:
        """Keep the call's function from being entered, or stop it if that can be done without harm to others.

        Returns:
            Whether it is certain that the function is not running and never will be.
        """
        return False

    def help(self, call: Call) -> bool:
        """Execute the call in the calling thread, if it is queued and this thread is one of the runner's own.

        A worker that has to wait for a queued call does it itself; that is how a full pool never deadlocks.

        Returns:
            Whether the call was executed here.
        """
        return False

    def accepts(self, reference: Reference) -> bool:
        """Whether a reference among the arguments may be handed over as it is, to be loaded by the worker."""
        return False

    def duplicate(self) -> Self:
        """Make an unopened runner with the same settings."""
        raise NotImplementedError(f"{type(self).__name__}.duplicate")

    def open(self, clock: Clock) -> None:
        """Make ready; may block. Called once, before the first `submit`.

        If it raises, nothing is left of what it began: `close` is not called then.
        """
        self._clock = clock

    def close(self, grace: float) -> None:
        """Report what is still outstanding as cancelled and let go of everything that was started.

        Args:
            grace: Seconds that running functions get to end by themselves.
        """
        self._clock = None

    @property
    def is_open(self) -> bool:
        """Whether the runner takes calls."""
        return self._clock is not None

    @property
    def clock(self) -> Clock:
        """The clock of whoever opened the runner.

        Raises:
            RunnerClosed: If the runner is not open.
        """
        if self._clock is None:
            raise self._not_open()
        return self._clock

    def _not_open(self) -> RunnerClosed:
        return RunnerClosed(
            f"{type(self).__name__} is not open: name it in @flow(task_runner=...) or Engine(runner=...), "
            "or open it with a `with` block"
        )

    def __enter__(self) -> Self:
        self.open(SystemClock())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(grace=10.0)


def check_workers(given: object, runner: object) -> None:
    """Refuse a ``max_workers`` that cannot work.

    Raises:
        ConfigurationError: If it is neither None nor a number of workers.
    """
    if given is not None and not (isinstance(given, int) and given >= 1):
        raise ConfigurationError(
            f"{type(runner).__name__}(max_workers={given!r}): give at least 1 worker, as a number."
        )


def default_workers() -> int:
    """How many workers an in-process pool has when nobody says: what `concurrent.futures` and asyncio use."""
    return min(32, (os.cpu_count() or 1) + 4)
