"""What runs on the other side: one call, or a batch of them, inside a worker process of any remote runner.

The worker restores the context, runs the function and describes what came of it. It decides nothing: states, retries
and caching stay with the engine.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (async functions run on the one loop of the process)
import concurrent.futures
import os
import socket
import threading  # noqa: TID251 (the threads of functions with a timeout)
import time  # noqa: TID251 (a worker has the system's time and no other)
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from penstock.context import current_run
from penstock.errors import SerializationError, TimedOut
from penstock.loops import LOOP_THREAD
from penstock.names import to_text
from penstock.ports import LogLine, Outcome
from penstock_runners import capture, pickling, variables, visits
from penstock_runners.failures import without_our_frames
from penstock_runners.wire import (
    ORIGIN,
    Attempt,
    Batch,
    PackedOutcome,
    PackedWork,
    Shelf,
    Surroundings,
    pack_outcome,
    unpack_attempt,
    unpack_work,
)

__all__ = ("Site", "execute", "run_batch", "settled", "worker_name")

shelf = Shelf()
"""The works that this process holds."""


@dataclass(slots=True, frozen=True)
class Site:
    """How a runner wants its calls run.

    Attributes:
        stops_calls: Whether the runner itself stops a function whose timeout passes, by killing the process. If not,
            a function with a timeout runs in a thread of its own, which is abandoned when the timeout passes.
        entering: Called with the index of a call right before it is run; False leaves it out.
        context: The backend's own context variables, which calls are to see beside those of the driver.
    """

    stops_calls: bool = False
    entering: Callable[[int], bool] | None = None
    context: Context | None = None


def run_batch(
    batch: Batch,
    work: PackedWork,
    emit: Callable[[int, PackedOutcome], None],
    site: Site = Site(),
    send: Callable[[int, LogLine], None] | None = None,
) -> None:
    """Run the calls of a batch one after the other.

    Args:
        batch: What `wire.pack` made on the driver.
        work: What `wire.pack_work` made; only its digest is needed if this process holds it already.
        emit: Brings one outcome home, with the index of its item.
        site: How the runner wants it.
        send: Brings one log line home at once; without it, lines come home with their outcome.
    """
    if batch.origin != ORIGIN:
        capture.install(batch.log_level)
    try:
        contents = unpack_work(work, shelf)
        surroundings = [pickling.loads(pickled) for pickled in batch.surroundings]
    except Exception as error:
        refused = pack_outcome(_not_loaded("its function", error), work.digest[:8])
        for index in range(len(batch.items)):
            emit(index, refused)
        return
    for index, item in enumerate(batch.items):
        if site.entering is not None and not site.entering(index):
            continue
        outcome = _run_item(contents, item, surroundings, site, None if send is None else _bound(send, index))
        emit(index, pack_outcome(outcome, contents.name))


def _bound(send: Callable[[int, LogLine], None], index: int) -> Callable[[LogLine], None]:
    return lambda line: send(index, line)


def _run_item(
    work: Any, item: Any, surroundings: Sequence[Surroundings], site: Site, send: Callable[[LogLine], None] | None
) -> Outcome:
    try:
        attempt = unpack_attempt(work, item, surroundings)
    except Exception as error:
        return _not_loaded("its arguments", error)
    return execute(attempt, send, site)


def execute(
    attempt: Attempt,
    send: Callable[[LogLine], None] | None = None,
    site: Site = Site(),
) -> Outcome:
    """Run one call here and now.

    Args:
        attempt: The call.
        send: Brings one log line home at once; without it, lines come home with the outcome.
        site: How the runner wants it.
    """
    context = Context() if site.context is None else site.context.copy()
    return context.run(_execute, attempt, capture.Lines(send), site.stops_calls)


def _execute(attempt: Attempt, lines: capture.Lines, stops_calls: bool) -> Outcome:
    value, error = None, None
    variables.restore(attempt.variables)
    try:
        leave = visits.enter(attempt.work, attempt.args, attempt.kwargs, attempt.facts, attempt.attempt)
    except Exception as broken:
        return _not_loaded("the facts of its run", broken)
    run = current_run.get()
    capture.begin(lines, run is not None and run.prints_to_log)
    started = time.time()
    try:
        value = _run(attempt, stops_calls)
    except BaseException as caught:  # also SystemExit and KeyboardInterrupt: they end the call, not the worker
        error = without_our_frames(caught, _OUR_FILES)
    ended = time.time()
    capture.end()
    return Outcome(
        value=value,
        error=error,
        started=started,
        ended=ended,
        worker=worker_name(),
        logs=lines.kept,
        children=leave(),
    )


def _run(attempt: Attempt, stops_calls: bool) -> Any:
    work = attempt.work
    if work.is_async:
        return _run_on_loop(attempt)
    if work.timeout is not None and not stops_calls:
        return _run_in_thread(attempt)
    return _call(attempt)


def _call(attempt: Attempt) -> Any:
    work = attempt.work
    value = work.function(*attempt.args, **work.constants, **attempt.kwargs)
    return list(value) if work.is_generator else value


async def _await(attempt: Attempt) -> Any:
    work = attempt.work
    value = work.function(*attempt.args, **work.constants, **attempt.kwargs)
    return [item async for item in value] if work.is_generator else await value


_OUR_FILES = frozenset({__file__, concurrent.futures._base.__file__})


def _not_loaded(what: str, error: BaseException) -> Outcome:
    failure = SerializationError(
        f"{worker_name()} could not load {what}: {type(error).__name__}: {error}. "
        "The worker needs the same code and the same versions of packages as the driver."
    )
    failure.__cause__ = error
    return Outcome(error=failure, worker=worker_name())


@lru_cache(maxsize=1)
def worker_name() -> str:
    """Who runs calls here, for people."""
    return f"pid {os.getpid()} on {socket.gethostname()}"


# --- timeouts -----------------------------------------------------------------------------------------------------

_abandoned: set[object] = set()
_ended = threading.Condition()


def settled(timeout: float) -> bool:
    """Wait up to so many seconds for the functions that still run although their timeout has passed.

    Returns:
        Whether there are none left.
    """
    if not _abandoned:
        return True
    with _ended:
        return _ended.wait_for(lambda: not _abandoned, timeout)


class _Abandonment:
    """Counts one function from the moment its timeout passed until it ends; it may end at that very moment."""

    def __init__(self) -> None:
        self._has_ended = False

    def begin(self) -> None:
        with _ended:
            if not self._has_ended:
                _abandoned.add(self)

    def end(self) -> None:
        with _ended:
            self._has_ended = True
            _abandoned.discard(self)
            _ended.notify_all()


def _run_in_thread(attempt: Attempt) -> Any:
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()
    abandonment = _Abandonment()
    context = copy_context()

    def body() -> None:
        try:
            done.set_result(context.run(_call, attempt))
        except BaseException as error:
            done.set_exception(error)
        finally:
            abandonment.end()

    threading.Thread(target=body, name=f"penstock-call-{attempt.work.name}", daemon=True).start()
    return _wait(done, attempt, abandonment)


def _run_on_loop(attempt: Attempt) -> Any:
    abandonment = _Abandonment()

    async def body() -> Any:
        try:
            return await _await(attempt)
        finally:
            abandonment.end()

    future = asyncio.run_coroutine_threadsafe(body(), LOOP_THREAD.loop)
    try:
        return _wait(future, attempt, abandonment)
    finally:
        future.cancel()


def _wait(future: concurrent.futures.Future[Any], attempt: Attempt, abandonment: _Abandonment) -> Any:
    timeout = attempt.work.timeout
    if not concurrent.futures.wait([future], timeout).done:
        abandonment.begin()
        error = TimedOut(f"task {attempt.work.name!r} exceeded its timeout of {timeout:g} s on {worker_name()}")
        error.run_id = to_text(attempt.facts["key"])
        raise error
    return future.result()
