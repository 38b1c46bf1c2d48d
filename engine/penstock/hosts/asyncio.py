"""The asyncio host: the order of work is a plain coroutine of the loop that the caller runs.

Bare asyncio, because an anyio task group costs 25 µs a task and a bare task 4 (benchmarks/fanout.py); cancellation,
debuggers and uvloop see nothing unusual.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (this is the asyncio host)
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

from penstock.brief_threads import IO_THREADS
from penstock.context import current_run
from penstock.errors import Cancelled, Closed
from penstock.flow_runs import FlowRun
from penstock.hosts.inline import Emit
from penstock.ledger import timed_out
from penstock.records import Run
from penstock.run import execute
from penstock.signals import Signal, call_then, post, suspend

__all__ = ("ASYNCIO", "AsyncioHost", "in_thread", "start", "stream")

T = TypeVar("T")


class AsyncioHost:
    """See `penstock.ports.Host`."""

    cancellations: tuple[type[BaseException], ...] = (asyncio.CancelledError, Cancelled)
    admits = False

    def cleaning_up(self) -> AbstractContextManager[object]:
        """A cancelled anyio scope cancels its tasks again and again, until they have left it: keep that out.

        A second cancellation of the asyncio task itself gets through; who sends it has lost patience.
        """
        anyio = sys.modules.get("anyio")
        return anyio.CancelScope(shield=True) if anyio is not None and asyncio.current_task() else nullcontext()

    async def admit(self, run: Run) -> None:
        """There is always room in place."""

    async def perform(self, run: Run) -> Any:
        """Await the function here."""
        definition = run.definition
        token, trace = current_run.set(run), run.trace
        detach = trace.attach() if trace is not None else None
        if isinstance(run, FlowRun):
            _own(run)
        try:
            if definition.timeout_seconds is not None:
                async with _Deadline(run, definition.timeout_seconds):
                    return await self._call(run)
            if definition.is_generator:
                return await self._call(run)
            return await definition.fn(*run.args, **run.kwargs)
        except asyncio.CancelledError as error:
            raise _as_our_own(run, error) from None
        finally:
            current_run.reset(token)
            if detach is not None:
                detach()

    async def _call(self, run: Run) -> Any:
        answer = run.definition.fn(*run.args, **run.kwargs)
        if not run.definition.is_generator:
            return await answer
        items: list[Any] = []
        async with aclosing(answer):
            async for item in answer:
                if run.streaming:
                    await _hand_over(run, item)
                else:
                    items.append(item)
        return None if run.streaming else items

    async def wait(self, run: Run, signal: Signal, timeout: float | None = None) -> bool:
        """Suspend until it happens."""
        if signal.done:
            return True
        try:
            await asyncio.wait_for(suspend(signal), timeout)
        except TimeoutError:
            return False
        return True

    async def join(self, run: Run, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await it, in a task, because a context belongs to one."""
        return await asyncio.get_running_loop().create_task(_awaited(coroutine), context=run.context_inside())

    async def call(self, run: Run, function: Callable[[], T]) -> T:
        """Call it here: it may rely on the loop, and a wait that would stop the loop is refused."""
        return function()

    async def offload(self, run: Run, function: Callable[[], T], size: int = 0) -> T:
        """Call it on a thread."""
        return await in_thread(function)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


ASYNCIO = AsyncioHost()


async def _hand_over(run: Run, item: object) -> None:
    """Give the consumer an item. While it has that, its task is not the run's, and is not to be cancelled for it."""
    if not isinstance(run, FlowRun):
        await Emit(item)
        return
    run.driver = None
    await Emit(item)
    _own(run)
    if run.cancel_reason is not None:
        raise Cancelled(run.cancel_reason)


async def in_thread(function: Callable[[], T]) -> T:
    """Call it on a thread, in this context."""
    done = Signal()
    context = copy_context()
    IO_THREADS.run(lambda: context.run(call_then, function, done))
    await suspend(done)
    return done.value()  # type: ignore[no-any-return]


def _own(run: FlowRun) -> None:
    """Let a flow that was awaited by somebody's own asyncio task be cancelled without that task."""
    run.outer_loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if run.driver is None and task is not None:
        run.driver = task
        run.interrupt = _cancel
        run.cancellations_around = task.cancelling()


def _as_our_own(run: Run, error: asyncio.CancelledError) -> BaseException:
    """Tell a cancellation that was asked of the run from one that was asked of the task around it, or of both."""
    task = asyncio.current_task()
    if run.future is not None or run.scope is not run or run.cancel_reason is None or task is None:
        return error
    if run.parent is not None and run.parent.scope.cancel_reason is not None:
        return error
    return error if task.uncancel() > run.cancellations_around else Cancelled(run.cancel_reason)


class _Deadline:
    """`asyncio.timeout` on the engine's clock, so that a virtual clock drives it too.

    The timer's thread only posts a letter; whether it still means anything is decided on the loop, where the block
    is either still open or not, so a timeout that races with the end never hits somebody else.
    """

    def __init__(self, run: Run, seconds: float) -> None:
        self._run = run
        self._seconds = seconds
        self._open = True
        self._expired = False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._cancellations_around = self._task.cancelling() if self._task is not None else 0
        loop = asyncio.get_running_loop()
        left = max(0.0, self._seconds - self._run.used)
        self._timer = self._run.engine.clock.call_later(left, partial(post, loop, self._expire))

    def _expire(self) -> None:
        if self._open and self._task is not None:
            self._expired = True
            self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._open = False
        self._timer.cancel()
        if not self._expired or self._task is None:
            return
        if self._task.uncancel() <= self._cancellations_around and kind is asyncio.CancelledError:
            raise timed_out(self._run, self._seconds) from error


def start(run: Run, loop: asyncio.AbstractEventLoop) -> None:
    """Give a run an asyncio task of its own, in a copy of the context that it was submitted in, or else of this one.

    To be called on the loop.
    """
    context = run.context.copy() if run.context is not None else None
    run.driver = loop.create_task(execute(run, ASYNCIO), context=context)
    run.interrupt = _cancel


def _cancel(run: Run) -> None:
    task: asyncio.Task[None] | None = run.driver
    if task is None:
        return  # the run has just ended
    loop = task.get_loop()
    if asyncio._get_running_loop() is loop:
        _cancel_here(run, task)
    else:
        post(loop, partial(_cancel_here, run, task))


def _cancel_here(run: Run, task: asyncio.Task[None]) -> None:
    """Cancel a run's asyncio task, but never before its first step.

    asyncio throws an early cancellation at the first line of the coroutine, where nothing can catch it, and the run
    would never end. One that has not begun will look at its ``cancel_reason`` when it does. If somebody else has
    cancelled its task already, as a loop does at its end, another task takes the run to its last state.
    """
    if run.states:
        task.cancel()
    elif task.cancelling():
        start(run, task.get_loop())


async def stream(coroutine: Coroutine[Any, Any, object], finish: Callable[[], Any]) -> AsyncGenerator[Any, None]:
    """Run a streaming run as the async generator that its caller iterates over.

    It has a context of its own, like that of `penstock.hosts.inline.stream`; many a loop closes a generator that was
    left in another task than it was made in. A consumer that leaves early waits until what is inside has stopped.
    """
    context = copy_context()
    try:
        while (emit := await _next_item(context, coroutine, coroutine.send, None)) is not None:
            yield emit.item
        finish()
    finally:
        if inspect.getcoroutinestate(coroutine) != inspect.CORO_CLOSED:
            with suppress(Closed):
                await _next_item(context, coroutine, coroutine.throw, Closed())


async def _next_item(
    context: Context, coroutine: Coroutine[Any, Any, object], resume: Callable[[Any], Any], argument: Any
) -> Emit | None:
    """Resume a streaming run until it has an item for its consumer, or has ended: None.

    The coroutine suspends for two reasons: it has an item, or it waits for something of the loop's, which is handed on
    to the loop.
    """
    while True:
        try:
            suspended = context.run(resume, argument)
        except StopIteration:
            return None
        if isinstance(suspended, Emit):
            return suspended
        resume, argument = coroutine.send, None
        try:
            argument = await _HandOn(suspended)
        except BaseException as error:
            resume, argument = coroutine.throw, error


class _HandOn:
    """Awaiting this gives the loop what an inner coroutine gave us."""

    def __init__(self, suspended: Any) -> None:
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._suspended)
