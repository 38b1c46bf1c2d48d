"""The system's clock, with one timer thread for every wait in the process that no event loop takes care of."""

from __future__ import annotations

import heapq
import itertools
import os
import threading  # noqa: TID251 (the one timer thread lives here)
from collections.abc import Callable
from time import monotonic, time  # noqa: TID251 (the one place that reads the system's clock)

__all__ = ("SystemClock", "is_timer_thread", "serve_timers_here")

_thread = threading.local()


def serve_timers_here() -> None:
    """Declare the calling thread one that a clock's callbacks run on."""
    _thread.serves_timers = True


def is_timer_thread() -> bool:
    """Whether the calling thread must come back soon, because every timer of its clock waits for it."""
    return getattr(_thread, "serves_timers", False)


class SystemClock:
    """Real time; its timers share one daemon thread, made by the first of them."""

    time: staticmethod[[], float] = staticmethod(time)
    monotonic: staticmethod[[], float] = staticmethod(monotonic)

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Entry:
        """Run ``callback`` on the timer thread after ``delay`` seconds."""
        return _timers.add(monotonic() + max(0.0, delay), callback)


class _Entry:
    """A callback with its due time; cancelling only forgets the callback, the heap drops the entry when it is due."""

    __slots__ = ("callback", "due", "order")

    def __init__(self, due: float, order: int, callback: Callable[[], None]) -> None:
        self.due: float = due
        self.order: int = order
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: _Entry) -> bool:
        return (self.due, self.order) < (other.due, other.order)

    def cancel(self) -> None:
        self.callback = None


class _Timers:
    """A heap of entries and the thread that serves it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every timer; a forked child inherits the heap and its lock but not the thread."""
        self._heap: list[_Entry] = []
        self._order = itertools.count()
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None

    def add(self, due: float, callback: Callable[[], None]) -> _Entry:
        entry = _Entry(due, next(self._order), callback)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="penstock-timers", daemon=True)
                self._thread.start()
            elif self._heap[0] is entry:
                self._changed.notify()
        return entry

    def _serve(self) -> None:
        serve_timers_here()
        while True:
            with self._changed:
                while not self._heap or self._heap[0].due > monotonic():
                    self._changed.wait(self._heap[0].due - monotonic() if self._heap else None)
                callback = heapq.heappop(self._heap).callback
            if callback is not None:
                callback()


_timers = _Timers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_timers.reset)
