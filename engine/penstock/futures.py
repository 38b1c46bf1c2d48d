"""Handles to runs that go on elsewhere: a `Future` is the signal of one run's end, together with the run."""

from __future__ import annotations

import asyncio  # noqa: TID251 (futures are awaitable)
import inspect
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, cast
from uuid import UUID

from penstock.brief_threads import HOOK_THREADS, may_wait_here
from penstock.context import current_run
from penstock.errors import InvalidCall, UnfinishedRun
from penstock.logging import engine_logger
from penstock.records import Run, cancel_all
from penstock.signals import Signal, wait_in_loop
from penstock.states import State, StateType, has_completed, is_elsewhere, result_of
from penstock.waiting import block, check_cancelled

__all__ = ("Arrival", "DoneAndNotDone", "Future", "FutureList", "as_completed", "wait", "wait_async")

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_BY_FUTURE = "cancelled through its future"


class Future(Signal, Generic[R_co]):
    """A handle to a run that was submitted or started.

    Await it, or call `result` from synchronous code. Asking for the result, the state or the exception counts as
    looking at the run: a failure that somebody looked at no longer fails the flow by itself.
    """

    __slots__ = ("__weakref__", "seen")

    run: Run  # pyright: ignore[reportIncompatibleVariableOverride]  # a future always has one

    def __init__(self, run: Run) -> None:
        Signal.__init__(self, run)
        self.seen: bool = False

    @property
    def id(self) -> UUID:
        """The run's id."""
        return self.run.id

    @property
    def task_run_id(self) -> UUID:
        """The run's id, under the peer's name."""
        return self.run.id

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def completed(self) -> bool:
        """Whether the run has ended well; asking does not count as looking."""
        return has_completed(self.run.states)

    @property
    def elsewhere(self) -> bool:
        """Whether the value has to be loaded, which may take time."""
        return is_elsewhere(self.run.states)

    @property
    def state(self) -> State:
        """The run's current state."""
        self.look()
        return self.run.state or State(StateType.PENDING)

    def look(self) -> None:
        """Count the run's end as dealt with by its author; so are the failures that kept it from starting."""
        if not self.seen:
            self.seen = True
            for upstream in getattr(self.run, "skipped_because_of", ()):
                upstream.look()

    def wait(self, timeout: float | None = None) -> None:
        """Block until the run has ended, or ``timeout`` seconds have passed; `done` tells which.

        Raises:
            WouldBlock: If called in a coroutine; await the future instead.
            DeadlockError: If that run waits, directly or not, for the caller's.
        """
        if not self.done:
            block(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R_co:
        """The run's value; blocks until there is one.

        Args:
            timeout: Seconds to wait at most.
            raise_on_failure: Whether to raise what the run failed with, or return it.

        Raises:
            TimeoutError: If the run has not ended in time; it goes on.
            WouldBlock: If called in a coroutine before the run has ended; await the future instead.
            DeadlockError: If that run waits, directly or not, for the caller's.
            BaseException: What the user's function raised, `CrashedRun`, `CancelledRun` or `UpstreamFailed`.
        """
        if not self.done and not block(self, timeout):
            raise TimeoutError(f"{self.run} did not end within {timeout} seconds; it goes on.")
        return cast(R_co, self._value(raise_on_failure))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the run failed with, or None; blocks like `result`."""
        if not self.done and not block(self, timeout):
            raise TimeoutError(f"{self.run} did not end within {timeout} seconds; it goes on.")
        state = self.state
        return None if state.is_completed() else state.error

    def cancel(self) -> bool:
        """Ask the run to stop; see `Run.cancel`.

        Returns:
            False if it had already ended.
        """
        return self.run.cancel(_BY_FUTURE)

    def cancelled(self) -> bool:
        """Whether the run ended by being cancelled."""
        return self.done and self.run.state is not None and self.run.state.is_cancelled()

    def add_done_callback(self, callback: Callable[[Future[Any]], object]) -> None:
        """Call ``callback(future)`` when the run has ended.

        It is called on the run's loop, on the thread that ended the run, or on one of its own. The flow run around the
        run does not end before the callback has returned.

        Raises:
            InvalidCall: If the callback is a coroutine function, which nobody would await.
        """
        if inspect.iscoroutinefunction(callback):
            raise InvalidCall(
                f"add_done_callback({callback.__qualname__}): nobody would await the coroutine. Give a plain function, "
                "or await the future in a coroutine of yours."
            )
        called = Signal(self.run)
        if (around := self.run.around) is not None:
            around.callbacks.add(called)
            called.on_done(around.callbacks.discard)
        self.on_done(partial(_call_back, callback, called))

    def _value(self, raise_on_failure: bool) -> Any:
        states = self.run.states
        if not states:
            raise UnfinishedRun(f"{self.run} has not begun.")
        if has_completed(states):
            self.seen = True
            return result_of(states)
        self.look()
        # A synchronous run whose own cancellation ended this one is told of its own, not of an ordinary failure.
        caller = current_run.get()
        if caller is not None and not caller.is_async:
            check_cancelled(caller)
        return result_of(states, raise_on_failure)

    def __await__(self) -> Generator[Any, None, R_co]:
        if not self.done:
            yield from wait_in_loop(self).__await__()
        if self.elsewhere:
            return cast(R_co, (yield from asyncio.to_thread(self._value, True).__await__()))
        return cast(R_co, self._value(True))

    def __repr__(self) -> str:
        return f"<Future of {self.run!r}>"


def _call_back(callback: Callable[[Any], object], called: Signal, future: Future[Any]) -> None:
    """One callback that fails, or that waits, must not keep the news from the others."""
    if future.loop is not None or may_wait_here():
        _call_back_here(callback, called, future)
    else:
        HOOK_THREADS.run(partial(_call_back_here, callback, called, future))


def _call_back_here(callback: Callable[[Any], object], called: Signal, future: Future[Any]) -> None:
    try:
        callback(future)
    except Exception:
        engine_logger.exception("The callback %r of %s failed; the run is not affected.", callback, future.run)
    finally:
        called.complete()


class FutureList(list[Future[R]], Generic[R]):
    """What `map` returns: futures, in the order of the items."""

    def wait(self, timeout: float | None = None) -> None:
        """Block until all have ended, or ``timeout`` seconds have passed in all."""
        wait(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """All values in order; blocks until there are, and raises as soon as one run failed.

        Args:
            timeout: Seconds to wait at most, in all.
            raise_on_failure: Whether to raise the first failure, or return exceptions in the values' places.
        """
        ended = _AllEnded(self, fail_fast=raise_on_failure)
        if not block(ended, timeout):
            left = sum(not future.done for future in self)
            raise TimeoutError(f"{left} of {len(self)} runs did not end within {timeout} seconds; they go on.")
        if ended.failed is not None:
            ended.failed.result()
        return [future._value(raise_on_failure) for future in self]

    def cancel(self) -> None:
        """Ask every run to stop."""
        live = [future.run for future in self if not future.done]
        cancel_all([*live, *(inner for run in live for inner in run.inside())], _BY_FUTURE)

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._gather().__await__()

    async def _gather(self) -> list[R]:
        ended = _AllEnded(self, fail_fast=True)
        if not ended.done:
            await wait_in_loop(ended)
        if ended.failed is not None:
            await ended.failed
        return [await future if future.elsewhere else future._value(True) for future in self]


class _AllEnded(Signal):
    """Happens when all runs have ended or, if it fails fast, when one of them did not complete."""

    __slots__ = ("_arrivals", "_ended", "_fail_fast", "_futures", "failed")

    def __init__(self, futures: Sequence[Future[Any]], fail_fast: bool) -> None:
        Signal.__init__(self)
        self.failed: Future[Any] | None = None
        self._futures = futures
        self._fail_fast = fail_fast
        self._ended = 0
        self._arrivals = itertools.count(1)
        arrive = self._arrive
        for future in futures:
            future.on_done(arrive)
        if not futures:
            self.complete()

    def _arrive(self, future: Future[Any]) -> None:
        if self._fail_fast and self.failed is None and not future.completed:
            self.failed = future
            self.complete()
        if next(self._arrivals) == len(self._futures):
            self.complete()

    def runs(self) -> Iterable[Run]:
        """The runs that have not ended; the ended ones at the front are skipped once."""
        while self._ended < len(self._futures) and self._futures[self._ended].done:
            self._ended += 1
        return (future.run for future in itertools.islice(self._futures, self._ended, None) if not future.done)


class Arrival(Signal):
    """Happens when the next one of several runs ends."""

    __slots__ = ("_futures",)

    needs_all = False

    def __init__(self, futures: Collection[Future[Any]]) -> None:
        Signal.__init__(self)
        self._futures = futures

    def runs(self) -> Iterable[Run]:
        """The runs that have not ended."""
        return (future.run for future in tuple(self._futures) if not future.done)


class DoneAndNotDone(NamedTuple):
    """What `wait` returns."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def _sorted_out(futures: list[Future[Any]]) -> DoneAndNotDone:
    return DoneAndNotDone({f for f in futures if f.done}, {f for f in futures if not f.done})


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout={timeout!r} is negative; give seconds, or None to wait as long as it takes.")


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Block until all runs have ended; never raises what they failed with.

    Args:
        futures: Any number of futures; duplicates count once.
        timeout: Seconds to wait at most, in all.

    Returns:
        The futures whose runs have ended, and those whose have not.
    """
    known = list(dict.fromkeys(futures))
    _check_timeout(timeout)
    ended = _AllEnded(known, fail_fast=False)
    block(ended, timeout)
    return _sorted_out(known)


async def wait_async(futures: Iterable[Future[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """`wait` for coroutines."""
    known = list(dict.fromkeys(futures))
    _check_timeout(timeout)
    ended = _AllEnded(known, fail_fast=False)
    if not ended.done:
        try:
            await asyncio.wait_for(wait_in_loop(ended), timeout)
        except TimeoutError:
            pass  # what has not ended is in the second set
    return _sorted_out(known)


class as_completed(Generic[R]):  # noqa: N801 (the name that every user knows)
    """Iterate over futures in the order in which their runs end, with ``for`` or ``async for``.

    Args:
        futures: Any number of futures; duplicates are yielded once.
        timeout: Seconds that the whole iteration may take.

    Raises:
        TimeoutError: While iterating, if runs are unfinished when the time is over.
    """

    def __init__(self, futures: Iterable[Future[R]], timeout: float | None = None) -> None:
        self._futures = list(dict.fromkeys(futures))
        self._timeout = timeout

    def __iter__(self) -> Generator[Future[R], None, None]:
        ended = _Ended(self._futures)
        deadline = _Deadline(self._timeout)
        for _ in self._futures:
            while not ended.queue:
                ended.arrival = Arrival(self._futures)
                if not ended.queue and not block(ended.arrival, deadline.left()):
                    raise self._over()
            yield ended.queue.popleft()

    async def __aiter__(self) -> AsyncGenerator[Future[R], None]:
        ended = _Ended(self._futures)
        deadline = _Deadline(self._timeout)
        for _ in self._futures:
            while not ended.queue:
                ended.arrival = Arrival(self._futures)
                if ended.queue:
                    break
                try:
                    await asyncio.wait_for(wait_in_loop(ended.arrival), deadline.left())
                except TimeoutError:
                    raise self._over() from None
            yield ended.queue.popleft()

    def _over(self) -> TimeoutError:
        left = sum(not future.done for future in self._futures)
        return TimeoutError(f"{left} (of {len(self._futures)}) futures unfinished after {self._timeout} seconds.")


class _Ended(Generic[R]):
    """The futures that have ended and not been yielded yet."""

    def __init__(self, futures: list[Future[R]]) -> None:
        self.queue: deque[Future[R]] = deque()
        self.arrival = Arrival(futures)
        for future in futures:
            future.on_done(self._arrive)

    def _arrive(self, future: Future[R]) -> None:
        self.queue.append(future)
        self.arrival.complete()


class _Deadline:
    """A timeout for several waits together."""

    def __init__(self, timeout: float | None) -> None:
        from penstock.clock import SystemClock

        self._now = SystemClock.monotonic
        self._end = None if timeout is None else self._now() + timeout

    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - self._now())
