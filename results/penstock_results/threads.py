"""Threads that end when their work does: nothing of them is left in a service that has nothing to claim."""

from __future__ import annotations

import threading  # noqa: TID251 (these are the threads)
from collections import deque
from collections.abc import Callable

__all__ = ("BriefThreads",)


class BriefThreads:
    """Threads for what talks to the place for claims, there only while there is something to do.

    Args:
        limit: How many there are at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._guard = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run a job that does not raise, soon, on some thread."""
        with self._guard:
            self._waiting.append(job)
            if self._threads >= self._limit:
                return
            self._threads += 1
        threading.Thread(target=self._serve, name="penstock-claims", daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._guard:
                if not self._waiting:
                    self._threads -= 1
                    return
                job = self._waiting.popleft()
            job()
