"""Between the runs that are ready and a runner: room, order and batches."""

from __future__ import annotations

import itertools
import threading  # noqa: TID251 (runs and workers call from many threads)
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias, cast

from penstock.anteroom import Anteroom
from penstock.brief_threads import bring_outcomes
from penstock.edges import wake_workers
from penstock.ports import Call, Outcome, Runner, Work
from penstock.schedule import Batcher, BatchSize
from penstock.steps import take
from penstock.task_runs import TaskRun

__all__ = ("Dispatcher",)

Batches: TypeAlias = Sequence[Sequence[TaskRun]]


class Dispatcher:
    """Lets ready runs begin when their runner has room, and brings their calls to it.

    The decisions are the `Batcher`'s; this class owns the lock, carries them out, and measures. A batch is nothing
    but a shared trip: every call has its own report.

    To begin a batch is to begin its runs, one after the other, in this thread. Each takes its states, looks into the
    cache, calls its hooks, and in the end hands over a call, which is put on the batch that is being assembled. One
    that is suspended on the way hands its call over later, and then it travels alone.

    No thread waits for the lock on the way of a run. One that is woken with a lock in its hand waits for the
    interpreter's lock next, and whoever has that one soon wants the first; so they all queue up behind one another, and
    a task on threads costs two switches and 90 µs instead of none and 30 (benchmarks/fanout.py). Instead, a thread puts
    down its news, and if the lock is free reads them, together with what others have put down meanwhile.

    Args:
        runner: An open runner.
        begin: Begins a run, or lets it go on, now that there is room for it.
        begin_without_room: Begins a run that may find a stored result, and needs room only if it does not.
        report: Brings an outcome to its run.
    """

    def __init__(
        self,
        runner: Runner,
        begin: Callable[[TaskRun], None],
        begin_without_room: Callable[[TaskRun], None],
        report: Callable[[Call, Outcome], None],
    ) -> None:
        self._runner = runner
        self._begin = begin
        self._report = report
        self._anteroom = Anteroom(begin_without_room)
        self._batcher: Batcher[TaskRun] = Batcher(runner.capacity, runner.batch_seconds)
        self._batch_of: dict[Call, _Batch] = {}
        self._news: deque[Callable[[], Batches]] = deque()
        self._lock = threading.Lock()
        self._assembling = threading.local()

    def receive(self, run: TaskRun) -> None:
        """A run has been submitted, and waits for no other."""
        # Batches of a fixed size are full only if their runs come one after the other, with nothing found between.
        if run.keeps and not self._runner.ordered and self._size(run) in ("auto", 1):
            self._anteroom.enter(run)
        else:
            self.enqueue(run)

    def enqueue(self, run: TaskRun) -> None:
        """A run is ready for an attempt."""
        if self._runner.ordered:
            # A runner that executes where it is submitted has room by definition, and nesting must not wait for it.
            self._begin(run)
            return
        self._tell(partial(self._batcher.add, run, self._size(run)))
        wake_workers()  # one may be waiting for exactly this run, and be the only one to execute it

    @contextmanager
    def gathering(self, work: Work) -> Generator[None, None, None]:
        """While the block runs, runs of this work keep coming, so batches of a fixed size wait until they are full."""
        size = work.batch_size or self._runner.batch_size
        if not self._runner.batches or size == "auto":
            yield
            return
        self._tell(partial(self._batcher.hold, work, size))
        try:
            yield
        finally:
            self._tell(partial(self._batcher.release, work))

    def withdraw(self, run: TaskRun) -> bool:
        """Take a run back that waits to begin, or for room; False if it has begun."""
        if self._anteroom.withdraw(run):
            return True
        with self._lock:
            batches = self._read()
            withdrawn = self._batcher.withdraw(run)
        self._send(batches)
        self._catch_up()
        return withdrawn

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

    def _tell(self, news: Callable[[], Batches]) -> None:
        self._news.append(news)
        self._catch_up()

    def _catch_up(self) -> None:
        """Read the news, unless somebody is at it, who then looks once more before he leaves; send what they make."""
        while self._news and self._lock.acquire(blocking=False):
            try:
                batches = self._read()
            finally:
                self._lock.release()
            self._send(batches)

    def _read(self) -> list[Sequence[TaskRun]]:
        batches: list[Sequence[TaskRun]] = []
        while self._news:
            batches += self._news.popleft()()
        return batches

    def _send(self, batches: Batches) -> None:
        """Begin the runs of each batch and submit their calls; one of which nothing is left makes room."""
        for runs in batches:
            calls = self._assemble(runs)
            if not calls:
                self._news.append(self._batcher.batch_done)
                continue
            batch = _Batch(calls[0].work, len(calls))
            for call in calls:
                self._batch_of[call] = batch
            self._runner.submit(calls, self._come_home)
            # A run that was cancelled between its turn and this submission had no call yet to be stopped. Stopped now,
            # it makes room for the next, which may have been cancelled, too: a step each, or they would nest.
            for call in calls:
                if cast(TaskRun, call.run).cancel_reason is not None:
                    take(partial(self._runner.cancel, call))

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
        if self._runner.remote:
            bring_outcomes()
        batch = self._batch_of.pop(call, None)
        if batch is not None and batch.is_last(outcome):
            # The next batch leaves before the news of this call make anybody else busy.
            self._tell(partial(self._end_batch, batch))
        self._report(call, outcome)

    def _end_batch(self, batch: _Batch) -> Batches:
        if batch.seconds:
            self._batcher.came_home(batch.work, sum(batch.seconds) / len(batch.seconds), len(batch.seconds))
        return self._batcher.batch_done()


class _Batch:
    """A batch that is out; its calls may come home on several threads."""

    __slots__ = ("_arrivals", "_size", "seconds", "work")

    def __init__(self, work: Work, size: int) -> None:
        self.work = work
        self.seconds: list[float] = []
        self._size = size
        self._arrivals = itertools.count(1)

    def is_last(self, outcome: Outcome) -> bool:
        """Note that a call is home; whether it is the last one."""
        if outcome.ended:
            self.seconds.append(outcome.ended - outcome.started)
        return next(self._arrivals) == self._size
