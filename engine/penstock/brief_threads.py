"""Threads for what blocks, which soon end when there is nothing to do: nothing of them is left in an idle service.

With a new thread for every question to a store, a stored result in an async flow costs four times as much, and there
are as many threads as open questions (benchmarks/ledger.py). They are daemons, because `asyncio.to_thread` would keep
an interrupted program from exiting.
"""

from __future__ import annotations

import os
import sys
import threading  # noqa: TID251 (these are the threads)
from collections import deque
from collections.abc import Callable
from weakref import WeakSet

__all__ = ("HOOK_THREADS", "IO_THREADS", "BriefThreads", "bring_outcomes", "may_wait_here")

_LINGER = 1.0
"""Seconds that a thread waits for another job."""


class BriefThreads:
    """Threads that are there while there is something to do, and a moment longer.

    Args:
        name: What they are called.
        limit: How many there are at most.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget all, in a process that was just forked and has none of the threads."""
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._members: WeakSet[threading.Thread] = WeakSet()
        self._threads = self._idle = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run a job that does not raise, soon, on some thread."""
        with self._changed:
            self._waiting.append(job)
            if self._idle >= len(self._waiting):
                self._changed.notify()
                return
            if self._threads >= self._limit:
                return
            self._threads += 1
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def run_now(self, job: Callable[[], None]) -> bool:
        """Run a job that does not raise, unless it would have to wait for a thread; whether it does not."""
        with self._changed:
            can_begin = self._idle > len(self._waiting) or self._threads < self._limit
            if can_begin:
                self.run(job)
        return can_begin

    @property
    def are_here(self) -> bool:
        """Whether this is one of them."""
        return threading.current_thread() in self._members

    def _serve(self) -> None:
        self._members.add(threading.current_thread())
        while (job := self._next()) is not None:
            job()
            del job  # or an idle thread would keep what it did last

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            if not self._waiting:
                self._idle += 1
                self._changed.wait_for(lambda: self._waiting, _LINGER)
                self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None


IO_THREADS = BriefThreads("penstock-io", 32)
"""What talks to stores and databases for coroutines; as many as the standard library's executor has at most."""

HOOK_THREADS = BriefThreads("penstock-hooks", sys.maxsize)
"""What calls the user's hooks and callbacks where they must not wait. As many as there are hooks at a time, because one
may wait for a run that has a hook itself."""

_thread = threading.local()


def bring_outcomes() -> None:
    """Note that this thread brings outcomes home from elsewhere: while it waits, nobody's run ends."""
    _thread.brings_outcomes = True


def may_wait_here() -> bool:
    """Whether hooks and callbacks of the user's may wait on this thread, because it is not one that others wait for."""
    return not (getattr(_thread, "brings_outcomes", False) or IO_THREADS.are_here)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=IO_THREADS.reset)
    os.register_at_fork(after_in_child=HOOK_THREADS.reset)
