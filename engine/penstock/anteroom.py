"""Where submitted runs look for a stored result, some at once, before there is room for them.

A look takes as long as the store does, 50 ms where that is S3. If the thread that brings calls to the runner looked,
the looks would go one after the other while workers wait. So runs that may find a result begin here, as many as keep a
slow store busy and fill batches; what they do not find they make when the runner has room. Not all begin at once: each
has claimed its key by the time it has looked, and claims have to be renewed.
"""

from __future__ import annotations

import threading  # noqa: TID251 (runs enter and leave in many threads)
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from penstock.steps import take
from penstock.task_runs import TaskRun

__all__ = ("Anteroom",)

_MOST = 64
"""Two for each thread that asks stores: one for which it asks, and one that has its key and waits for room. With four
times as many, 600 calls on a store that takes 20 ms are no faster, and whoever else wants their keys waits longer."""


class Anteroom:
    """Lets runs begin to look, as many at a time as there are places.

    Args:
        begin: Begins a run that has no room yet.
    """

    def __init__(self, begin: Callable[[TaskRun], None]) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self._places = _MOST
        self._waiting: OrderedDict[TaskRun, None] = OrderedDict()

    def enter(self, run: TaskRun) -> None:
        """Begin the run now, or when somebody has left."""
        with self._lock:
            if not self._places:
                self._waiting[run] = None
                return
            self._places -= 1
        run.anteroom = self
        self._begin(run)

    def leave(self, run: TaskRun) -> None:
        """The run has ended, there is room for it, or it waits for another that has its key: the next one may begin."""
        run.anteroom = None
        with self._lock:
            if not self._waiting:
                self._places += 1
                return
            following, _ = self._waiting.popitem(last=False)
        following.anteroom = self
        take(partial(self._begin, following))

    def withdraw(self, run: TaskRun) -> bool:
        """Take a run back that waits to be let in; False if it has begun."""
        with self._lock:
            if run not in self._waiting:
                return False
            del self._waiting[run]
            return True
