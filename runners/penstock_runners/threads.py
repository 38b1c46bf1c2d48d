"""A bounded pool of threads that cannot deadlock by waiting for itself.

Why not `concurrent.futures.ThreadPoolExecutor`: a task that submits tasks and waits for them occupies its thread while
it waits, and a pool full of such tasks waits for ever. Here a worker that has to wait for a queued call takes it out
of the queue and executes it itself (`help`), so the bound holds and something always moves. For that a queued call
must be findable, and whoever takes it out of ``_queued`` first may have it: a worker, a helper, or a canceller.

Threads start when they are needed. A worker that finds nothing to do leaves a token in ``_idle`` before it waits; each
call that is queued takes one out, or starts a thread. So a worker that is about to begin something never counts as one
that could take the next call too, and no call waits for it while another thread might be started.
"""

from __future__ import annotations

import threading  # noqa: TID251 (this is a pool of threads)
from collections import deque
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Self

from penstock.edges import wake_workers
from penstock.errors import Cancelled
from penstock.ledger import mark_ended, mark_overdue, timed_out
from penstock.ports import Call, Clock, Outcome, Report
from penstock.waiting import set_helper
from penstock_runners.base import TaskRunner, check_workers, default_workers
from penstock_runners.inprocess import execute

__all__ = ("ThreadPoolTaskRunner",)


class ThreadPoolTaskRunner(TaskRunner):
    """Executes calls on threads of this process.

    Args:
        max_workers: How many threads there may be; by default as many as `concurrent.futures` would make.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        check_workers(max_workers, self)
        self._max_workers = max_workers or default_workers()
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._queued: dict[Call, Report] = {}
        self._running: dict[Call, Report] = {}
        self._threads: list[threading.Thread] = []
        self._idle: deque[None] = deque()
        self._accepts_calls = False
        self._lock = threading.Lock()

    @property
    def capacity(self) -> int:
        """The number of threads."""
        return self._max_workers

    def open(self, clock: Clock) -> None:
        """Make ready; threads start when they are needed."""
        super().open(clock)
        self._accepts_calls = True

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Queue the calls."""
        if not self._accepts_calls:
            raise self._not_open()
        for call in calls:
            self._queued[call] = report
            self._queue.put(call)
        if len(self._threads) < self._max_workers:
            self._add_threads(len(calls))
        if not self._accepts_calls:
            # The pool was closed meanwhile, and may have looked for queued calls before these were.
            for call in calls:
                self._drop(call)
        wake_workers()  # one may be waiting for exactly this call, and be the only one to execute it

    def _add_threads(self, calls: int) -> None:
        with self._lock:
            for _ in range(calls):
                if not self._accepts_calls or len(self._threads) == self._max_workers:
                    return
                if self._idle:
                    self._idle.pop()
                    continue
                name = f"penstock-worker-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        set_helper(self)
        while (call := self._next_call()) is not None:
            report = self._queued.pop(call, None)
            if report is not None:
                self._execute(call, report)
            # An idle worker must not be what keeps the last call's arguments and value alive.
            del call, report

    def _next_call(self) -> Call | None:
        try:
            return self._queue.get_nowait()
        except Empty:
            if len(self._threads) < self._max_workers:
                self._idle.append(None)
            return self._queue.get()

    def help(self, call: Call) -> bool:
        """Execute the call in this thread, if it is still queued."""
        report = self._queued.pop(call, None)
        if report is None:
            return False
        self._execute(call, report)
        return True

    def cancel(self, call: Call) -> bool:
        """Take the call out of the queue; one that runs cannot be stopped, its thread is entered in the ledger."""
        if self._drop(call):
            return True
        report = self._give_up(call, "a worker thread")
        if report is not None:
            report(call, Outcome(error=Cancelled("cancelled while it ran; its thread goes on")))
        return False

    def _drop(self, call: Call) -> bool:
        """Cancel the call if it is still queued."""
        report = self._queued.pop(call, None)
        if report is None:
            return False
        report(call, Outcome(error=Cancelled("cancelled before it started")))
        return True

    def _execute(self, call: Call, report: Report) -> None:
        self._running[call] = report
        timer = None
        if call.work.timeout is not None:
            thread = threading.current_thread().name
            timer = self.clock.call_later(call.work.timeout, partial(self._expire, call, thread))
        outcome = execute(call)
        if timer is not None:
            timer.cancel()
        if self._running.pop(call, None) is not None:
            report(call, outcome)
        else:
            mark_ended(call)

    def _give_up(self, call: Call, thread: str) -> Report | None:
        """Enter a running call in the ledger; gives how to tell of its outcome, unless it has ended."""
        with self._lock:
            if call not in self._running:
                return None
            # First the entry: the call may end at any moment, and takes off what it finds.
            mark_overdue(call, call.run, thread, self.clock)
            report = self._running.pop(call, None)
            if report is None:
                mark_ended(call)
            return report

    def _expire(self, call: Call, thread: str) -> None:
        report = self._give_up(call, thread)
        if report is not None and call.work.timeout is not None:
            report(call, Outcome(error=timed_out(call.run, call.work.timeout), worker=thread))

    def close(self, grace: float) -> None:
        """Cancel what is queued, and wait for running functions at most ``grace`` seconds."""
        if not self.is_open:
            return
        with self._lock:
            self._accepts_calls = False
            threads, self._threads = self._threads, []
        for call in tuple(self._queued):
            self._drop(call)
        for _ in threads:
            self._queue.put(None)
        deadline = self.clock.monotonic() + grace
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - self.clock.monotonic()))
        super().close(grace)

    def duplicate(self) -> Self:
        """An unopened pool of the same size."""
        return type(self)(self._max_workers)
