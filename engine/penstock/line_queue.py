"""The last lines of runs, which end on many threads, on their way to the handlers.

A handler holds its lock while it writes, and the interpreter lets other threads run meanwhile. They soon want to write,
too, and queue up for the one lock with the other in their hands: on threads, a line costs 120 µs instead of 25
(benchmarks/ledger.py). So a thread puts its line down, and if nobody is writing it writes what has been put down, also
by others in the meantime. Nobody waits, except for the last line of a flow, and if the writer falls too far behind.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading  # noqa: TID251 (runs end in many threads)
from collections import deque
from contextvars import Context, copy_context

__all__ = ("LAST_LINES", "LineQueue")

_MANY = 256
"""Lines that may lie here; whoever brings more waits until they are written."""
_PATIENCE = 1.0
"""Seconds to wait at most: the writer may itself wait for a handler that is running a flow in this thread."""

_reports = logging.Handler()


class LineQueue:
    """Lines that wait for whoever is writing."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all, in a process that was just forked: what others were writing, they write in the parent."""
        self._lines: deque[tuple[Context, logging.Logger, logging.LogRecord]] = deque()
        self._lock = threading.Lock()
        self._writer = 0

    def put(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Leave a line to whoever writes; its filters and handlers see the context of this thread."""
        if self._writer == threading.get_ident():  # a handler is running a flow
            logger.handle(record)
            return
        self._lines.append((copy_context(), logger, record))
        if len(self._lines) >= _MANY:
            self.write_all()
        self._catch_up()

    def write_all(self) -> None:
        """Return when every line that was put down is written."""
        if self._writer != threading.get_ident() and self._lock.acquire(timeout=_PATIENCE):
            self._write()
            self._catch_up()

    def _catch_up(self) -> None:
        """Write unless somebody is at it, and look once more afterwards: lines may have come just before the end."""
        while self._lines and self._lock.acquire(blocking=False):
            self._write()

    def _write(self) -> None:
        """Write what is there; the lock is held, and let go of at the end."""
        self._writer = threading.get_ident()
        try:
            while self._lines:
                context, logger, record = self._lines.popleft()
                try:
                    context.run(logger.handle, record)
                except Exception:
                    _reports.handleError(record)  # as handlers do: the run whose thread this is has no part in it
        finally:
            self._writer = 0
            self._lock.release()


LAST_LINES = LineQueue()
"""The queue of all runs of this process."""

atexit.register(LAST_LINES.write_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LAST_LINES.reset)
