"""Between the runs that are ready and a runner: room, order and batches."""

from __future__ import annotations

import threading  # noqa: TID251 (runs and workers call from many threads)
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import cast

from penstock.ports import Call, Outcome, Runner, Work
from penstock.records import TaskRun
from penstock.schedule import Batcher, BatchSize

__all__ = ("Dispatcher",)


class Dispatcher:
    """Lets ready runs begin when their runner has room, and brings their calls to it.

    The decisions are the `Batcher`'s; this class owns the lock, carries them out, and measures. A batch is nothing
    but a shared trip: every call has its own report.

    To begin a batch is to begin its runs, one after the other, in this thread. Each takes its states, looks into the
    cache, calls its hooks, and in the end hands over a call, which is put on the batch that is being assembled. One
    that is suspended on the way hands its call over later, and then it travels alone.

    Args:
        runner: An open runner.
        begin: Begins a run, or lets it go on, now that there is room for it.
        report: Brings an outcome to its run.
    """

    def __init__(
        self, runner: Runner, begin: Callable[[TaskRun], None], report: Callable[[Call, Outcome], None]
    ) -> None:
        self._runner = runner
        self._begin = begin
        self._report = report
        self._batcher: Batcher[TaskRun] = Batcher(runner.capacity, runner.batch_seconds)
        self._batch_of: dict[Call, _Batch] = {}
        self._lock = threading.Lock()
        self._assembling = threading.local()

    def enqueue(self, run: TaskRun) -> None:
        """A run is ready for an attempt."""
        if self._runner.ordered:
            # A runner that executes where it is submitted has room by definition, and nesting must not wait for it.
            self._begin(run)
            return
        with self._lock:
            batches = self._batcher.add(run, self._size(run))
        if batches:
            self._send(batches)
        elif self._runner.blocked:
            # A worker that waits may be waiting for exactly this run, and may be the only one to execute it.
            for wake in tuple(self._runner.blocked):
                wake()

    @contextmanager
    def gathering(self, work: Work) -> Generator[None, None, None]:
        """While the block runs, runs of this work keep coming, so batches of a fixed size wait until they are full."""
        size = work.batch_size or self._runner.batch_size
        if not self._runner.batches or size == "auto":
            yield
            return
        with self._lock:
            self._batcher.hold(work, size)
        try:
            yield
        finally:
            with self._lock:
                batches = self._batcher.release(work)
            self._send(batches)

    def withdraw(self, run: TaskRun) -> bool:
        """Take a run that waits for room out of the queue; False if it has begun."""
        with self._lock:
            return self._batcher.withdraw(run)

    def promote(self, run: TaskRun) -> None:
        """Begin a run that waits for room, because a worker wants to execute it itself."""
        if self.withdraw(run):
            self._begin(run)

    def submit(self, call: Call) -> None:
        """Take a call of a run that has begun."""
        assembling: list[Call] | None = getattr(self._assembling, "calls", None)
        if assembling is not None:
            assembling.append(call)
        else:
            self._runner.submit((call,), self._report)

    def cancel(self, call: Call) -> bool:
        """Keep the call from starting; see `TaskRunner.cancel`."""
        return self._runner.cancel(call)

    def _size(self, run: TaskRun) -> BatchSize:
        if not self._runner.batches or run.crashes:
            return 1
        return run.work.batch_size or self._runner.batch_size

    def _send(self, batches: Sequence[Sequence[TaskRun]]) -> None:
        """Begin the runs of each batch and submit their calls; one of which nothing is left makes room."""
        todo = list(batches)
        while todo:
            calls = self._assemble(todo.pop(0))
            if calls:
                batch = _Batch(len(calls))
                for call in calls:
                    self._batch_of[call] = batch
                self._runner.submit(calls, self._come_home)
                # A run that was cancelled between its turn and this submission had no call yet to be stopped.
                for call in calls:
                    if cast(TaskRun, call.run).cancel_reason is not None:
                        self._runner.cancel(call)
            else:
                with self._lock:
                    todo += self._batcher.batch_done()

    def _assemble(self, runs: Sequence[TaskRun]) -> list[Call]:
        outer = getattr(self._assembling, "calls", None)
        self._assembling.calls = calls = list[Call]()
        try:
            for run in runs:
                self._begin(run)
        finally:
            self._assembling.calls = outer
        return calls

    def _come_home(self, call: Call, outcome: Outcome) -> None:
        batch = self._batch_of.pop(call, None)
        if batch is not None:
            with self._lock:
                batch.left -= 1
                if outcome.ended:
                    self._batcher.came_home(call.work, outcome.ended - outcome.started)
                batches = self._batcher.batch_done() if not batch.left else ()
            # The next batch leaves before the news of this call make anybody else busy.
            self._send(batches)
        self._report(call, outcome)


class _Batch:
    """How many of its calls have not come home."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left
