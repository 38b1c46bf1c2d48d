"""Letting the runs that were submitted on a loop begin, some at each turn of it.

An asyncio task that waits for its first step is six objects. Ten thousand of them at once are looked through by the
garbage collector again and again, and the loop turns for nobody else until each has taken that step. So a flood is
let in by portions: most tasks of one portion have ended, or wait for something, when the next begins. A fan-out costs
2.6 times bare tasks instead of 3.3 (benchmarks/fanout.py).
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (this is part of the asyncio host)
from collections import deque
from contextvars import Context

from penstock.hosts.asyncio import start
from penstock.per_loop import PerLoop
from penstock.records import Run

__all__ = ("let_in",)

_PORTION = 100
"""Runs that begin at one turn of a loop: under a millisecond of it (benchmarks/fanout.py)."""


def let_in(run: Run, loop: asyncio.AbstractEventLoop) -> None:
    """Let a run begin at this turn of its loop, or soon; to be called on the loop."""
    _turnstiles.of(loop).let_in(run)


class _Turnstile:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = _PORTION
        self._waiting: deque[Run] = deque()
        self._usher: asyncio.Task[None] | None = None

    def let_in(self, run: Run) -> None:
        if self._waiting or not self._room:
            self._waiting.append(run)
            if self._usher is None:
                self._usher = self._loop.create_task(self._serve(), context=Context())
            return
        if self._room == _PORTION:
            self._loop.call_soon(self._turn)
        self._room -= 1
        start(run, self._loop)

    def _turn(self) -> None:
        self._room = _PORTION

    async def _serve(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)
                self._begin(_PORTION)
        except asyncio.CancelledError:
            await self._turn_away()
            raise
        finally:
            self._usher = None

    def _begin(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            start(self._waiting.popleft(), self._loop)

    async def _turn_away(self) -> None:
        """The loop is about to end, and cancels all its tasks: those that it does not have yet have to end, too."""
        waiting = tuple(self._waiting)
        for run in waiting:
            run.cancel("cancelled at the end of its event loop")
        self._begin(len(waiting))
        if drivers := [run.driver for run in waiting]:
            await asyncio.wait(drivers)


_turnstiles = PerLoop(_Turnstile)
