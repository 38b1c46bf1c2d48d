"""Executing a call in this process: what the sequential and the thread runner share."""

from __future__ import annotations

import asyncio  # noqa: TID251 (asks which loop runs in this thread)
import threading  # noqa: TID251 (the worker's name is its thread's)
from typing import Any

from penstock.ledger import call_with_deadline
from penstock.ports import Call, Clock, Outcome
from penstock.waiting import check_cancelled, current_attempt

__all__ = ("execute", "execute_in_time")


def execute(call: Call) -> Outcome:
    """Enter the call's function in this thread, in the call's context, and tell what came of it."""
    try:
        value = call.context.run(_enter, call)
    except BaseException as error:
        return Outcome(error=error, worker=threading.current_thread().name)
    return Outcome(value=value)


def execute_in_time(call: Call, clock: Clock) -> Outcome:
    """`execute` for a call with a timeout, on a thread that can be left behind."""
    assert call.work.timeout is not None, "the caller looked"
    try:
        value = call_with_deadline(lambda: call.context.run(_enter, call), call.run, call.work.timeout, clock)
    except BaseException as error:
        return Outcome(error=error, worker=threading.current_thread().name)
    return Outcome(value=value)


def _enter(call: Call) -> Any:
    run: Any = call.run
    run.outer_loop = asyncio._get_running_loop()
    check_cancelled(run)
    work = call.work
    if work.timeout is not None:
        current_attempt.set(call)
    value = work.function(*call.args, **work.constants, **call.kwargs)
    return list(value) if work.is_generator else value
