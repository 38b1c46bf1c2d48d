"""Who waits for what: what a virtual clock, a worker with nothing to do and whoever closes a circle have to know."""

from __future__ import annotations

import asyncio  # noqa: TID251 (a loop is what some runs wait for)
import threading  # noqa: TID251 (a run may wait on several threads)
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.context import current_run
from penstock.errors import DeadlockError

if TYPE_CHECKING:
    from penstock.records import Run
    from penstock.signals import Signal

__all__ = (
    "drawn",
    "edges",
    "holder_of",
    "holding_up",
    "loop_of",
    "resting",
    "stopped_loops",
    "waiting_workers",
    "wake_workers",
)

waiting_workers: set[Callable[[], None]] = set()
"""How to wake the workers of any pool that wait inside a call."""


def wake_workers() -> None:
    """Let them look again whether they could execute what they wait for."""
    for wake in tuple(waiting_workers):
        wake()


stopped_loops: dict[asyncio.AbstractEventLoop, Run | None] = {}
"""Loops that do not turn, because a synchronous run that was called on them waits: that run, if it is one."""


@contextmanager
def holding_up(loop: asyncio.AbstractEventLoop, run: Run | None) -> Generator[None, None, None]:
    """Note that a loop does not turn while the block lasts, because a run waits in its thread."""
    stood, before = loop in stopped_loops, stopped_loops.get(loop)
    stopped_loops[loop] = run
    wake_workers()  # one may wait for something on this loop, and so from now on for what the run rests on
    try:
        yield
    finally:
        if stood:  # what a run does while it waits, a hook for example, may wait in its turn
            stopped_loops[loop] = before
        else:
            del stopped_loops[loop]


def holder_of(loop: asyncio.AbstractEventLoop | None) -> Run | None:
    """The run that has to go on before a loop turns; None if it turns."""
    return None if loop is None else stopped_loops.get(loop)


def loop_of(run: Run | None) -> asyncio.AbstractEventLoop | None:
    """The loop that has to turn for a run to go on, if it is a coroutine."""
    while run is not None and run.is_async:
        loop = run.outer_loop if run.future is None else run.future.loop
        if loop is not None or not run.direct:
            return loop
        run = run.parent
    return None


_resting = threading.Lock()


class resting:  # noqa: N801 (reads as a statement: `with resting(run, signal)`)
    """While the block lasts, a run and its callers can do nothing before a signal happens.

    A virtual clock reads this from `Run.rests_on`: time may jump when every live run rests and no signal has happened.
    A worker that waits reads it, to find out what it could do to go on. Most runs rest on one thing at a time, but a
    coroutine may gather a hundred thousand futures, and a function may wait on several threads.
    """

    __slots__ = ("_runs", "signal")

    def __init__(self, run: Run | None, signal: Signal) -> None:
        self._runs = () if run is None else _with_callers(run)
        self.signal: Signal = signal

    def __enter__(self) -> None:
        with _resting:
            for run in self._runs:
                if run.rests is None:
                    run.rests = self
                elif type(run.rests) is dict:
                    run.rests[self] = None
                else:
                    run.rests = {run.rests: None, self: None}
        if self._runs:
            wake_workers()  # one may wait for this run, and so from now on for what it rests on

    def __exit__(self, *_: object) -> None:
        with _resting:
            for run in self._runs:
                if run.rests is self:
                    run.rests = None
                else:
                    del run.rests[self]
                    run.rests = run.rests or None


@contextmanager
def edges(signal: Signal, owner: Any) -> Generator[None, None, None]:
    """Record that the caller's run cannot go on before a signal happens.

    A run that was called directly is part of its caller, so the callers cannot go on either. In a coroutine the wait
    stops the run only if the asyncio task that waits is the one that the run consists of.

    Args:
        signal: What is waited for.
        owner: The asyncio task that waits, or None for a thread.

    Raises:
        DeadlockError: If that closes a circle.
    """
    run = current_run.get()
    if run is None or (owner is not None and run.scope.driver is not owner):
        yield
        return
    with drawn(run, signal):
        yield


@contextmanager
def drawn(run: Run, signal: Signal) -> Generator[None, None, None]:
    """Record that a run and its callers cannot go on before a signal happens.

    Raises:
        DeadlockError: If that closes a circle.
    """
    stopped = _with_callers(run)
    before = [waiter.waiting_on for waiter in stopped]
    # Draw first, look second: of two threads that close a circle at the same moment at least one sees it.
    for waiter in stopped:
        waiter.waiting_on = signal
    try:
        _refuse_circle(signal, stopped)
        yield
    finally:
        for waiter, edge in zip(stopped, before, strict=True):
            waiter.waiting_on = edge


def _refuse_circle(signal: Signal, stopped: list[Run]) -> None:
    circle = _way_back(signal, stopped, {})
    if circle is not None:
        names = " waits for ".join(str(run) for run in (stopped[0], *circle))
        raise DeadlockError(f"{names}: none of them can go on. Let one of them end without the other's result.")


_Seen: TypeAlias = "dict[Run, bool]"
"""Whether runs that were looked at lead back to where the search began."""


def _way_back(signal: Signal, stopped: list[Run], seen: _Seen) -> list[Run] | None:
    """How what a signal takes leads back to one of the runs that stop for it, if there is no way around.

    A chain of runs that each wait for one other can be thousands long, so it is followed in a loop; only where a run
    waits for several, or goes on only when a loop turns, does the search branch.
    """
    way: list[Run] = []
    while (run := _only_run(signal)) is not None:
        if run in seen:
            return way if seen[run] else None
        seen[run] = False
        way.append(run)
        if run in stopped:
            return _leads_back(way, seen)
        rest = _way_over_loop(loop_of(run), stopped, seen)
        if rest is not None:
            return _leads_back([*way, *rest], seen)
        if run.waiting_on is None:
            return None
        signal = run.waiting_on
    rest = _way_over_loop(signal.loop, stopped, seen)
    if rest is None:
        rest = _branch_back(signal, stopped, seen)
    return None if rest is None else _leads_back([*way, *rest], seen)


def _leads_back(way: list[Run], seen: _Seen) -> list[Run]:
    seen.update(dict.fromkeys(way, True))
    return way


def _way_over_loop(loop: asyncio.AbstractEventLoop | None, stopped: list[Run], seen: _Seen) -> list[Run] | None:
    """The way back from the run that holds up a loop."""
    holder = holder_of(loop)
    return None if holder is None else _way_through(holder, stopped, seen)


def _way_through(run: Run, stopped: list[Run], seen: _Seen) -> list[Run] | None:
    if run in seen:
        return [] if seen[run] else None
    seen[run] = False
    if run in stopped:
        return _leads_back([run], seen)
    rest = _way_over_loop(loop_of(run), stopped, seen)
    if rest is None and run.waiting_on is not None:
        rest = _way_back(run.waiting_on, stopped, seen)
    return None if rest is None else _leads_back([run, *rest], seen)


def _only_run(signal: Signal) -> Run | None:
    """The run that has to end for a signal to happen, if it is one alone."""
    if signal.run is not None:
        return signal.run
    runs = list(islice(signal.runs(), 2))
    return runs[0] if len(runs) == 1 else None


def _branch_back(signal: Signal, stopped: list[Run], seen: _Seen) -> list[Run] | None:
    way: list[Run] | None = None
    for run in signal.runs():
        way = _way_through(run, stopped, seen)
        if (way is not None) is signal.needs_all:
            return way
    return way


def _with_callers(run: Run) -> list[Run]:
    runs = [run]
    while run.direct and run.parent is not None:
        run = run.parent
        runs.append(run)
    return runs
