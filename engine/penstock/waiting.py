"""Blocking, without ever blocking for good.

A thread that waits for a run may be the very thread that has to execute it, the loop that has to turn for it, or the
run that it waits for. `block` is the one place where a thread stops, and it answers all three before it does:

* on an event loop it refuses, and says to await;
* on a runner's worker it executes what it waits for itself, if that is still queued;
* it draws an edge from the waiting run to the awaited one, and a circle of edges is a `DeadlockError` at once.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (asks which loop runs in this thread)
import threading  # noqa: TID251 (each worker thread knows its helper)
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from penstock.clock import SystemClock
from penstock.context import current_run
from penstock.edges import edges, holder_of, holding_up, loop_of, resting, waiting_workers
from penstock.errors import Cancelled, WouldBlock
from penstock.steps import catch_up

if TYPE_CHECKING:
    from penstock.ports import Call, Host
    from penstock.records import Run
    from penstock.signals import Signal

__all__ = (
    "Helper",
    "block",
    "check_cancelled",
    "cleaning_up",
    "current_attempt",
    "given_up",
    "in_main_thread",
    "set_helper",
    "stop",
    "wait_for",
    "was_given_up",
)

_now = SystemClock.monotonic


class Helper(Protocol):
    """The pool that a worker thread belongs to, as far as waiting concerns it."""

    def help(self, call: Call) -> bool:
        """Execute the call here, if it is queued."""
        ...


_thread = threading.local()


def set_helper(helper: Helper) -> None:
    """Declare the calling thread a worker of ``helper``."""
    _thread.helper = helper


def block(signal: Signal, timeout: float | None = None) -> bool:
    """Stop the calling thread, and with it the run that it executes, until a signal happens.

    Args:
        signal: What to wait for.
        timeout: Seconds to wait at most.

    Returns:
        Whether it has happened.

    Raises:
        WouldBlock: If that would stop a coroutine's loop.
        DeadlockError: If what the signal takes waits for the caller's run.
        Cancelled: If the caller's run is cancelled.
    """
    if signal.done:
        return True
    run = current_run.get()
    refuse_to_block(signal, run)
    with resting(run, signal):
        return stop(signal, timeout)


def stop(signal: Signal, timeout: float | None = None) -> bool:
    """`block` for the engine's own waits: the run may go on elsewhere meanwhile, on another thread or on a loop."""
    loop = asyncio._get_running_loop()
    if loop is None:
        return _stop(signal, timeout)
    if signal.loop is loop:
        raise _would_block(signal)
    with holding_up(loop, current_run.get()):
        return _stop(signal, timeout)


def _stop(signal: Signal, timeout: float | None) -> bool:
    run = current_run.get()
    deadline = None if timeout is None else _now() + timeout
    with edges(signal, None) if timeout is None else nullcontext():
        return _Waiter(signal, run).wait(deadline)


_REST = 10
"""How long a worker that found nothing to do looks no more, in times of the look: one that waits for thousands of runs
would take a millisecond of each await in the process."""


class _Waiter:
    """One thread, stopped."""

    def __init__(self, signal: Signal, run: Run | None) -> None:
        self._signal = signal
        self._run = run
        self._helper: Helper | None = getattr(_thread, "helper", None)
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._pauses = False

    def _ring(self, _: object = None) -> None:
        self._bell.put(None)

    def _look_again(self) -> None:
        if not self._pauses:  # or it will look anyway
            self._bell.put(None)

    def wait(self, deadline: float | None) -> bool:
        signal, run, helper = self._signal, self._run, self._helper
        bells: list[Callable[[], None]] = [] if run is None else run.scope.__dict__.setdefault("bells", [])
        bells.append(self._ring)
        signal.on_done(self._ring)
        if helper is not None:
            waiting_workers.add(self._look_again)
        try:
            while True:
                check_cancelled(run)
                catch_up()
                if signal.done:
                    break
                looked = _now()
                if helper is not None and _help(helper, signal, run):
                    continue
                now = _now()
                if not self._sleep(deadline):
                    break
                self._pause(now + _REST * (now - looked))
        finally:
            waiting_workers.discard(self._look_again)
            bells.remove(self._ring)
            signal.forget(self._ring)
        return signal.done

    def _sleep(self, deadline: float | None) -> bool:
        try:
            self._bell.get(timeout=None if deadline is None else max(0.0, deadline - _now()))
        except Empty:
            return False
        return True

    def _pause(self, until: float) -> None:
        """Do nothing until another look is due, unless the wait is over."""
        self._pauses = True
        while _now() < until and not self._is_over():
            self._sleep(until)
        self._pauses = False

    def _is_over(self) -> bool:
        return self._signal.done or (self._run is not None and self._run.scope.cancel_reason is not None)


_cleaning_up: ContextVar[bool] = ContextVar("penstock_cleaning_up", default=False)


@contextmanager
def cleaning_up() -> Generator[None, None, None]:
    """Let a run that was cancelled wait for what it has to clean up."""
    token = _cleaning_up.set(True)
    try:
        yield
    finally:
        _cleaning_up.reset(token)


given_up: dict[object, Any] = {}
"""The attempts that still run although their time is over; `penstock.ledger` keeps it."""

current_attempt: ContextVar[object] = ContextVar("penstock_attempt", default=None)
"""What an attempt with a timeout has as its key in `given_up`, should it come to that."""


def in_main_thread() -> bool:
    """Whether the caller runs in the thread in which Python raises Ctrl-C."""
    return threading.current_thread() is threading.main_thread()


def was_given_up() -> bool:
    """Whether the caller is an attempt that timed out, so that it may not start anything any more."""
    return bool(given_up) and current_attempt.get() in given_up


def check_cancelled(run: Run | None) -> None:
    """Stop a synchronous run that was cancelled, or whose time is over.

    Raises:
        Cancelled: If the run, or what it is part of, was cancelled, or has timed out.
    """
    if was_given_up():
        raise Cancelled(f"{run} has timed out and nobody waits for it any more")
    if run is not None and run.scope.cancel_reason is not None and not _cleaning_up.get():
        raise Cancelled(f"{run.scope} was {run.scope.cancel_reason}")


def refuse_to_block(signal: Signal, run: Run | None) -> None:
    """Keep a blocking wait off an event loop.

    A synchronous run that was called where a loop runs (a notebook, a plain function called by a coroutine) may
    block: that is what its caller asked for, and the engine puts everything that the run starts elsewhere. It may not
    if the signal needs that very loop to turn. In a coroutine, blocking is a mistake in either case.
    """
    loop = asyncio._get_running_loop()
    if loop is None or (signal.loop is not loop and run is not None and not run.is_async):
        return
    raise _would_block(signal)


def _would_block(signal: Signal) -> WouldBlock:
    what = str(signal.run) if signal.run is not None else "the runs"
    return WouldBlock(
        f"Waiting for {what} here would block the event loop. Write `await future` (or `await wait_async(futures)`, "
        "`async for future in as_completed(futures)`) instead."
    )


async def wait_for(run: Run, host: Host, signal: Signal, timeout: float | None = None) -> bool:
    """Let a run rest until a signal happens; False if ``timeout`` seconds passed first."""
    with resting(run, signal):
        return await host.wait(run, signal, timeout)


def _help(helper: Helper, signal: Signal, waiter: Run | None) -> bool:
    """Execute one queued call that a signal takes; only what it takes, so that helping cannot deadlock.

    What a coroutine rests on, that a synchronous run called, its caller rests on: so ``waiter`` counts too. And what
    happens on a loop that a synchronous run holds up takes what that run rests on.
    """
    seen: set[Run] = set()
    todo = [signal, *(() if waiter is None else waiter.rests_on)]
    while todo:
        taken = todo.pop()
        todo.extend(_held_up_by(holder_of(taken.loop), seen))
        for run in taken.runs():
            if run in seen:
                continue
            seen.add(run)
            run.promote()
            call: Call | None = getattr(run, "call", None)
            if call is not None and helper.help(call):
                return True
            todo.extend(run.rests_on)
            todo.extend(_held_up_by(holder_of(loop_of(run)), seen))
    return False


def _held_up_by(holder: Run | None, seen: set[Run]) -> Sequence[Signal]:
    """What has to happen before a loop turns that a run holds up."""
    if holder is None or holder in seen:
        return ()
    seen.add(holder)
    return holder.rests_on
