"""The inline host: plain synchronous code, in the caller's thread.

Its methods are coroutines that never suspend, so one ``send(None)`` runs the whole order of work, and no loop is
needed: not in a thread, not on a worker, not inside somebody else's running loop.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (the user's function may raise its CancelledError)
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, closing
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.context import current_run
from penstock.errors import Cancelled
from penstock.ledger import call_with_deadline, timed_out
from penstock.loops import loop_thread_for
from penstock.records import Run
from penstock.signals import Signal
from penstock.waiting import cleaning_up, stop

if TYPE_CHECKING:
    from penstock.definitions import Definition

__all__ = ("INLINE", "InlineHost", "drive", "stream")

T = TypeVar("T")


class InlineHost:
    """See `penstock.ports.Host`."""

    cancellations: tuple[type[BaseException], ...] = (Cancelled, asyncio.CancelledError)
    admits = False

    def cleaning_up(self) -> AbstractContextManager[object]:
        """Blocking no longer asks whether the run, or its caller, was cancelled."""
        return cleaning_up()

    async def admit(self, run: Run) -> None:
        """There is always room in place."""

    async def perform(self, run: Run) -> Any:
        """Call the function here; one that must end on time gets a thread of its own, which can be left behind."""
        definition = run.definition
        token, trace = current_run.set(run), run.trace
        detach = trace.attach() if trace is not None else None
        try:
            if run.streaming:
                return await self._stream(run)
            if definition.timeout_seconds is not None:
                function = partial(_call, definition, run)
                return call_with_deadline(function, run, definition.timeout_seconds, run.engine.clock)
            if definition.is_generator:
                return _call(definition, run)
            return definition.fn(*run.args, **run.kwargs)
        finally:
            current_run.reset(token)
            if detach is not None:
                detach()

    async def _stream(self, run: Run) -> Any:
        """Pass items on as they come; a generator that is out of time is stopped at its next item, or at its end."""
        begun = run.engine.clock.monotonic()
        with closing(run.definition.fn(*run.args, **run.kwargs)) as generator:
            while True:
                try:
                    item = next(generator)
                except StopIteration as stop:
                    _check_time(run, begun)
                    return stop.value
                _check_time(run, begun)
                await Emit(item)

    async def wait(self, run: Run, signal: Signal, timeout: float | None = None) -> bool:
        """Block the thread."""
        return signal.done or stop(signal, timeout)

    async def join(self, run: Run, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine on a loop thread of the engine's."""
        return loop_thread_for(run).run(coroutine, run.context_inside())

    async def call(self, run: Run, function: Callable[[], T]) -> T:
        """Call it here."""
        return function()

    async def offload(self, run: Run, function: Callable[[], T], size: int = 0) -> T:
        """Call it here: the thread is the caller's own."""
        return function()


def _call(definition: Definition[Any, Any], run: Run) -> Any:
    value = definition.fn(*run.args, **run.kwargs)
    return list(value) if definition.is_generator else value


def _check_time(run: Run, begun: float) -> None:
    seconds = run.definition.timeout_seconds
    if seconds is not None and run.engine.clock.monotonic() - begun > seconds - run.used:
        raise timed_out(run, seconds)


INLINE = InlineHost()


class Emit:
    """Awaiting this hands an item to whoever iterates over the run; the only suspension an inline run may have."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item: Any = item

    def __await__(self) -> Generator[Emit, None, None]:
        yield self


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose host never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError(f"{coroutine!r} suspended under the inline host")


def stream(coroutine: Coroutine[Any, Any, object], finish: Callable[[], Any]) -> Generator[Any, None, Any]:
    """Run a streaming run as the generator that its caller iterates over.

    The run has a context of its own. Its consumer is not inside it, and may ask for each item in another context, as a
    service does that iterates on threads.

    Args:
        coroutine: The order of work of a run with ``streaming`` set.
        finish: Gives the run's value, or raises what it ended with.
    """
    context = copy_context()
    try:
        while True:
            try:
                emit: Any = context.run(coroutine.send, None)
            except StopIteration:
                return finish()
            yield emit.item
    finally:
        context.run(coroutine.close)
