"""Functions that outlive their timeout or their cancellation.

A thread cannot be stopped from outside. When its time is over the caller is told so on time, and the thread is
entered here until its function really ends: nothing that still runs is out of sight.
"""

from __future__ import annotations

import threading  # noqa: TID251 (a function with a deadline gets a thread that can be left behind)
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from penstock.errors import TimedOut
from penstock.ports import Clock
from penstock.signals import Signal
from penstock.waiting import current_attempt, given_up, stop

__all__ = ("Overdue", "call_with_deadline", "mark_ended", "mark_overdue", "overdue", "timed_out")


@dataclass(frozen=True, slots=True, eq=False)
class Overdue:
    """A function that still runs although nobody waits for it any more.

    Attributes:
        run: The name of its run.
        thread: The thread's name.
        since: When it was given up, seconds since the epoch.
    """

    run: str
    thread: str
    since: float


def overdue() -> list[Overdue]:
    """The functions that still run on a thread after their run timed out or was cancelled, oldest first."""
    return list(given_up.values())


def mark_overdue(key: object, run: Any, thread: str, clock: Clock) -> None:
    """Enter a function under a key of the caller's choice."""
    given_up[key] = Overdue(run.name, thread, clock.time())


def mark_ended(key: object) -> None:
    """Take a function off the list, if it is on it."""
    given_up.pop(key, None)


def timed_out(run: Any, seconds: float) -> TimedOut:
    """The error of a run that did not end in time."""
    error = TimedOut(f"{run} exceeded its timeout of {seconds} second(s).")
    error.run_id = str(run.id)
    return error


def call_with_deadline(function: Callable[[], Any], run: Any, seconds: float, clock: Clock) -> Any:
    """Call something on a thread of its own and wait for it at most ``seconds``.

    Args:
        function: What to call, in a copy of the caller's context.
        run: The run on whose behalf.
        seconds: How long it may take.
        clock: Whose seconds.

    Raises:
        TimedOut: If it has not ended by then; it goes on, and the ledger lists it.
    """
    done = Signal()
    place: list[None] = [None]  # popped by whichever comes first, the end or the deadline
    thread = threading.Thread(
        target=copy_context().run,
        args=(_call, function, place, done),
        name=f"penstock-{run.name}",
        daemon=True,
    )

    def expire() -> None:
        if _claim(place):
            mark_overdue(done, run, thread.name, clock)
            done.complete(partial(_reraise, timed_out(run, seconds)))

    timer = clock.call_later(max(0.0, seconds - run.used), expire)
    thread.start()
    try:
        stop(done)
    except BaseException:
        if _claim(place):
            mark_overdue(done, run, thread.name, clock)
        raise
    finally:
        timer.cancel()
    return done.value()


def _claim(place: list[None]) -> bool:
    try:
        place.pop()
    except IndexError:
        return False
    return True


def _call(function: Callable[[], Any], place: list[None], done: Signal) -> None:
    current_attempt.set(done)
    try:
        value = function()
        answer: Callable[[], Any] = lambda: value  # noqa: E731 (one of two answers)
    except BaseException as error:
        answer = partial(_reraise, error)
    if _claim(place):
        done.complete(answer)
    else:
        mark_ended(done)


def _reraise(error: BaseException) -> Any:
    raise error
