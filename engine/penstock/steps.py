"""Steps that follow from one another: taken at once, but not one inside the other without end.

The end of a run lets those that wait for it take a step, in the same thread; if that is their end too, the next ones
follow inside it. In a chain of a thousand runs of which the first fails that would be a thousand nested calls, and
Python's stack is not that deep. So from a certain depth on a step is put off until the thread has come back from
the others, or until it is about to block: what it waits for may be exactly what was put off.
"""

from __future__ import annotations

import threading  # noqa: TID251 (each thread has its own depth)
from collections import deque
from collections.abc import Callable

__all__ = ("catch_up", "take")

_DEEPEST = 10
"""Steps inside one another: some 15 frames each, and the user's own code needs most of the thousand."""


class _Steps(threading.local):
    def __init__(self) -> None:
        self.depth = 0
        self.put_off: deque[Callable[[], object]] = deque()


_steps = _Steps()


def take(step: Callable[[], object]) -> None:
    """Take a step now, or soon in the same thread."""
    if _steps.depth >= _DEEPEST:
        _steps.put_off.append(step)
        return
    _steps.depth += 1
    try:
        step()
    finally:
        _steps.depth -= 1
    if not _steps.depth and _steps.put_off:
        catch_up()


def catch_up() -> None:
    """Take the steps that this thread has put off."""
    put_off = _steps.put_off
    while put_off:
        take_now = put_off.popleft()
        depth, _steps.depth = _steps.depth, 1
        try:
            take_now()
        finally:
            _steps.depth = depth
