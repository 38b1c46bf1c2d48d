"""One event loop on one thread, for coroutines whose caller has no loop.

An async task that a synchronous flow calls or submits, and an async hook of a synchronous run, all run here, on the
same loop for as long as the process lives: clients, locks and pools that one of them made work in the next. Only if one
of them calls a synchronous function, which holds up the loop, and that function calls a coroutine in its turn, does
that one run on another loop.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (this is a loop)
import atexit
import os
import threading  # noqa: TID251 (and its thread)
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.errors import DeadlockError
from penstock.signals import Signal, post, reraise
from penstock.waiting import cleaning_up, stop

if TYPE_CHECKING:
    from penstock.records import Run

__all__ = ("LOOP_THREAD", "LoopThread", "loop_thread_for")

T = TypeVar("T")

_GRACE = 10.0
"""Seconds that a coroutine gets to clean up when whoever waits for it is stopped."""


class LoopThread:
    """A loop that starts when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._substitute: LoopThread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="penstock-loop", daemon=True)
                self._thread.start()
            return self._loop

    @property
    def substitute(self) -> LoopThread:
        """The one that takes its place while its loop is held up."""
        with self._lock:
            if self._substitute is None:
                self._substitute = LoopThread()
            return self._substitute

    def begin(self, coroutine: Coroutine[Any, Any, Any], done: Signal) -> Callable[[], None]:
        """Start a coroutine in the caller's context.

        Args:
            coroutine: What to run.
            done: Completed with a function that gives the coroutine's value or raises its error.

        Returns:
            A function that cancels the coroutine, from any thread.
        """
        done.loop = loop = self.loop
        context = copy_context()
        tasks: list[asyncio.Task[Any]] = []
        done.loop = loop
        post(loop, partial(_start, loop, context, coroutine, done, tasks))
        # The detour lets the task take its first step before: see hosts.asyncio._cancel_here.
        return partial(post, loop, partial(_cancel, loop, tasks))

    def run(self, coroutine: Coroutine[Any, Any, T], context: Context) -> T:
        """Run a coroutine in a copy of a context, and block until it has ended, also if it has to be cancelled."""
        done = Signal()
        cancel = context.run(self.begin, coroutine, done)
        try:
            stop(done)
        except DeadlockError:
            cancel()  # it will hear of that when its loop turns again, which takes that this run ends
            raise
        except BaseException:
            cancel()
            with cleaning_up():
                stop(done, _GRACE)
            raise
        return done.value()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop the loop and its thread; the next use starts new ones."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            substitute, self._substitute = self._substitute, None
        if substitute is not None:
            substitute.close()
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_GRACE)
        if thread.is_alive():
            return  # somebody's coroutine blocks the loop; the thread is a daemon and dies with the process
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop()  # leaving the runner cancels what is left, lets it clean up and closes the loop

    def forget(self) -> None:
        """In a forked child the loop's thread does not exist."""
        self.__init__()  # type: ignore[misc]


def _cancel(loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        loop.call_soon(task.cancel)


def _start(
    loop: asyncio.AbstractEventLoop,
    context: Context,
    coroutine: Coroutine[Any, Any, Any],
    done: Signal,
    tasks: list[asyncio.Task[Any]],
) -> None:
    task = loop.create_task(_keep(coroutine), context=context)
    tasks.append(task)
    task.add_done_callback(lambda ended: done.complete(lambda: ended.result()()))


async def _keep(coroutine: Coroutine[Any, Any, Any]) -> Callable[[], Any]:
    """Await a coroutine, and keep what would stop the loop for all its other users for the one who waits for it."""
    try:
        value = await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        return partial(reraise, error)
    return lambda: value


LOOP_THREAD = LoopThread()


def loop_thread_for(run: Run | None) -> LoopThread:
    """Where a coroutine can run that a run waits for: the first loop that no synchronous run around it holds up."""
    held_up: set[Any] = set()
    while run is not None:
        if run.outer_loop is not None and not run.is_async:
            held_up.add(run.outer_loop)
        run = run.parent
    thread = LOOP_THREAD
    while held_up and thread.loop in held_up:
        thread = thread.substitute
    return thread


atexit.register(LOOP_THREAD.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOOP_THREAD.forget)
