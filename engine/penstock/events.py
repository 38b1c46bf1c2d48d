"""Transitions on their way to whoever wants to know.

A run hands each transition to the engine and goes on at once. One thread per engine brings them to the sinks, in
order. A sink that raises is logged and keeps getting events; one that blocks delays its fellow sinks, never a run;
and when the buffer is full the oldest transitions are dropped and counted.
"""

from __future__ import annotations

import threading  # noqa: TID251 (the one thread that serves the sinks)
from collections import deque
from collections.abc import Sequence

from penstock.logging import engine_logger
from penstock.ports import Event, Sink

__all__ = ("EventBuffer",)

CAPACITY = 100_000
"""Events that wait at most: some thirty thousand tasks, and ten megabytes besides the states that they hold."""


class EventBuffer:
    """A bounded buffer between runs and sinks.

    Attributes:
        dropped: How many events were lost because the sinks did not keep up.
    """

    def __init__(self, sinks: Sequence[Sink], capacity: int = CAPACITY) -> None:
        self.dropped: int = 0
        self._sinks = tuple(sinks)
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._wake = threading.Condition(threading.Lock())
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, event: Event) -> None:
        """Take an event; never blocks longer than the serving thread needs to take one."""
        with self._wake:
            self._events.append(event)
            if len(self._events) > self._capacity:
                self._events.popleft()
                self._count_dropped()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="penstock-events", daemon=True)
                self._thread.start()
            elif len(self._events) == 1:
                self._wake.notify()

    def close(self, timeout: float) -> None:
        """Bring what is buffered to the sinks, for at most ``timeout`` seconds."""
        with self._wake:
            thread = self._thread
            self._closing = thread is not None
            self._wake.notify()
        if thread is not None:
            thread.join(timeout)

    def _count_dropped(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            engine_logger.warning("An event sink does not keep up: the oldest transitions are being dropped.")

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not self._events and not self._closing:
                    self._wake.wait()
                events, self._events = self._events, deque()
                if not events:
                    self._closing, self._thread = False, None
                    return
            for event in events:
                self._deliver(event)

    def _deliver(self, event: Event) -> None:
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception:
                engine_logger.exception("The event sink %r failed on %r; the run is not affected.", sink, event.state)
