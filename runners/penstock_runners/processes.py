"""Attempts in worker processes on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from penstock.errors import ConfigurationError, SerializationError
from penstock.ports import Call, Clock, Report
from penstock_runners import pickling
from penstock_runners.base import TaskRunner, check_workers
from penstock_runners.pool import Pool
from penstock_runners.process_worker import Setup

__all__ = ("ProcessPoolTaskRunner",)


class ProcessPoolTaskRunner(TaskRunner):
    """Runs attempts in worker processes on this machine.

    Workers are fresh interpreters, started when there is work for them, and live until the runner closes. The main
    module is not run again in them, so no ``if __name__ == "__main__"`` guard is needed. A worker that dies, is killed
    for a timeout or is cancelled is replaced, and takes no call with it but the one that it was running.

    Args:
        max_workers: How many processes; by default one for each processor that this process may use.
        initializer: Called once in each worker before its first call.
        initargs: The initializer's positional arguments.
        lease: Seconds that a worker may be stopped by a signal (SIGSTOP, a debugger) with a call in it before the
            call is given up as crashed and the worker killed. A worker that is merely busy, holds the interpreter's
            lock or waits is never given up: that is what a task's ``timeout`` is for.

    Raises:
        ConfigurationError: If there is no room for a single worker, or the system is Windows.
    """

    remote: ClassVar[bool] = True
    batches: ClassVar[bool] = True

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        lease: float = 30.0,
    ) -> None:
        check_workers(max_workers, self)
        if lease <= 0:
            raise ConfigurationError(f"ProcessPoolTaskRunner(lease={lease}): it must be positive")
        if sys.platform == "win32":
            raise ConfigurationError("ProcessPoolTaskRunner needs a POSIX system; use ThreadPoolTaskRunner on Windows")
        self._max_workers = max_workers
        self._initializer = initializer
        self._initargs = initargs
        self._lease = lease
        self._pool: Pool | None = None

    @property
    def capacity(self) -> int:
        """How many attempts can run at the same time."""
        return self._max_workers or _processors()

    def open(self, clock: Clock) -> None:
        """Make ready; workers start when there is work for them.

        Raises:
            SerializationError: If the initializer or its arguments cannot be pickled.
        """
        super().open(clock)
        initializer = (self._initializer, self._initargs)
        try:
            packed = pickling.dumps(initializer)
        except Exception as error:
            why = pickling.explain(initializer, "(initializer, initargs)")
            raise SerializationError(f"ProcessPoolTaskRunner cannot send its initializer to workers: {why}") from error
        self._pool = Pool(self.capacity, Setup(sys.argv, packed), self._lease, self.on_line)

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Start the calls as soon as there is room, and report each."""
        self._open_pool().submit(calls, report)

    def cancel(self, call: Call) -> bool:
        """Keep the call's function from being entered, or kill the worker that is in it."""
        return self._open_pool().cancel(call)

    def close(self, grace: float) -> None:
        """Report what is still outstanding as cancelled, and end all workers.

        Args:
            grace: Seconds that running functions get to end by themselves.

        Raises:
            RunnerError: If called from a report, which runs on the thread that has to finish the closing.
        """
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(grace)
        super().close(grace)

    def duplicate(self) -> Self:
        """Make an unopened runner with the same settings."""
        return type(self)(self._max_workers, initializer=self._initializer, initargs=self._initargs, lease=self._lease)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that are alive now."""
        return [] if self._pool is None else self._pool.pids()

    def _open_pool(self) -> Pool:
        if self._pool is None:
            raise self._not_open()
        return self._pool


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
