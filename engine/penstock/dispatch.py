"""Between the runs and a runner that pays for every submission: gathering calls into batches."""

from __future__ import annotations

import threading  # noqa: TID251 (runs and workers call from many threads)
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from penstock.ports import Call, Outcome, Report, Runner, Work
from penstock.records import TaskRun
from penstock.schedule import Batcher, BatchSize

__all__ = ("Dispatcher", "report")


def report(call: Call, outcome: Outcome) -> None:
    """Take an outcome home; one that comes too late, or for an attempt that is over, meets nobody."""
    run = cast(TaskRun, call.run)
    signal = run.outcome
    if signal is not None and run.call is call and not signal.done:
        signal.complete(outcome)


class Dispatcher:
    """Brings calls to one open runner, one by one or in batches.

    The decisions are the `Batcher`'s; this class owns the lock, carries them out, and measures. Every call still has
    its own report: a batch is nothing but a shared trip.
    """

    def __init__(self, runner: Runner, report: Report) -> None:
        self._runner = runner
        self._report = report
        self._batcher = Batcher(runner.capacity, runner.batch_seconds)
        self._left: dict[int, int] = {}
        self._batch_of: dict[Call, int] = {}
        self._numbers = 0
        self._lock = threading.Lock()

    def submit(self, call: Call) -> None:
        """Send a call, now or together with others that are ready."""
        size = self._size(call.work)
        if not self._runner.batches or size == 1 or call.alone:
            self._runner.submit((call,), self._report)
            return
        with self._lock:
            batches = self._number(self._batcher.add(call, size))
        self._send(batches)

    @contextmanager
    def gathering(self, work: Work) -> Iterator[None]:
        """While the block runs, calls of this work keep coming, so batches of a fixed size wait until they are full."""
        if not self._runner.batches:
            yield
            return
        with self._lock:
            self._batcher.hold(work, self._size(work))
        try:
            yield
        finally:
            with self._lock:
                batches = self._number(self._batcher.release(work))
            self._send(batches)

    def cancel(self, call: Call) -> bool:
        """Keep the call from starting; see `TaskRunner.cancel`."""
        with self._lock:
            if self._batcher.withdraw(call):
                return True
        return self._runner.cancel(call)

    def _size(self, work: Work) -> BatchSize:
        return work.batch_size or self._runner.batch_size

    def _number(self, batches: Sequence[Sequence[Call]]) -> Sequence[Sequence[Call]]:
        for batch in batches:
            self._numbers += 1
            self._left[self._numbers] = len(batch)
            for call in batch:
                self._batch_of[call] = self._numbers
        return batches

    def _send(self, batches: Sequence[Sequence[Call]]) -> None:
        for batch in batches:
            self._runner.submit(batch, self._come_home)

    def _come_home(self, call: Call, outcome: Outcome) -> None:
        with self._lock:
            number = self._batch_of.pop(call, None)
            batches: Sequence[Sequence[Call]] = ()
            if number is not None:
                if outcome.ended:
                    self._batcher.came_home(call.work, outcome.ended - outcome.started)
                self._left[number] -= 1
                if not self._left[number]:
                    del self._left[number]
                    batches = self._number(self._batcher.batch_done())
        # The next batch leaves before the news of this call make anybody else busy.
        self._send(batches)
        self._report(call, outcome)
