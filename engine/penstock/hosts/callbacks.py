"""The callbacks host: a run that was submitted to a runner waits without a thread.

Its coroutine stands still at a `Signal`, and whichever thread completes the signal takes the next step: the worker
that brings an outcome, the timer thread after a retry delay, the worker of an upstream run.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (asks whether a loop runs in this thread)
import threading  # noqa: TID251 (a thread for I/O that must not hold up a loop)
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from penstock.errors import Cancelled, Lost
from penstock.futures import Signal
from penstock.loops import LOOP_THREAD
from penstock.ports import Call, Outcome
from penstock.records import Run, TaskRun
from penstock.run import execute

__all__ = ("CALLBACKS", "CallbacksHost", "start")

T = TypeVar("T")


class CallbacksHost:
    """See `penstock.ports.Host`."""

    cancellations: tuple[type[BaseException], ...] = (Cancelled,)

    async def perform(self, run: TaskRun) -> Any:
        """Hand the attempt to the runner and stand still until its outcome is home."""
        signal = run.outcome = Signal(run)
        context = run.context or copy_context()
        call = run.call = Call(run.work, run.args, run.kwargs, run, run.attempt, context.copy(), run.crashes > 0)
        assert run.runner is not None, "a run under this host was submitted to a runner"
        dispatcher = run.engine.dispatcher(run.runner)
        dispatcher.submit(call)
        try:
            await self.wait(signal)
        except Cancelled:
            dispatcher.cancel(call)
            raise
        finally:
            run.call = run.outcome = None
        outcome: Outcome = signal.value
        run.worker = outcome.worker
        if outcome.crash is not None:
            raise Lost(outcome.crash)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    async def wait(self, signal: Signal, timeout: float | None = None) -> bool:
        """Stand still until the signal happens."""
        if not signal.done:
            await _Stand(signal)
        return True

    async def join(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine on the engine's loop thread and stand still meanwhile."""
        done = Signal()
        LOOP_THREAD.begin(coroutine, done)
        await self.wait(done)
        return done.value()  # type: ignore[no-any-return]

    async def offload(self, function: Callable[[], T]) -> T:
        """Call it here, or on a thread if here is somebody's event loop."""
        if asyncio._get_running_loop() is None:
            return function()
        done = Signal()
        threading.Thread(target=_call_then, args=(function, done), name="penstock-io", daemon=True).start()
        await self.wait(done)
        return done.value()  # type: ignore[no-any-return]


CALLBACKS = CallbacksHost()


def _call_then(function: Callable[[], Any], done: Signal) -> None:
    try:
        value = function()
    except BaseException as error:
        done.complete(partial(_reraise, error))
    else:
        done.complete(lambda: value)


def _reraise(error: BaseException) -> Any:
    raise error


class _Stand:
    """Awaiting this gives the stepper the signal to stand at."""

    __slots__ = ("_signal",)

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    def __await__(self) -> Generator[Signal, None, None]:
        yield self._signal


def start(run: TaskRun) -> None:
    """Begin a run in this thread; it goes on in others."""
    run.driver = stepper = _Stepper(run, execute(run, CALLBACKS))
    run.interrupt = _interrupt
    stepper.step(stepper.send, None)


def _interrupt(run: Run) -> None:
    stepper: _Stepper | None = run.driver
    if stepper is not None:  # None: the run has just ended
        stepper.interrupt()


class _Stepper:
    """Takes a coroutine from signal to signal.

    Two may want to take the next step at the same moment: the thread that completes the signal, and one that cancels
    the run. Each place where the coroutine stands is a list of one element, and popping it, which only one of them
    can, is the permission.
    """

    __slots__ = ("_interrupted", "_place", "_run", "_throw", "send")

    def __init__(self, run: TaskRun, coroutine: Coroutine[Any, Any, None]) -> None:
        self._run = run
        self.send: Callable[[Any], Any] = coroutine.send
        self._throw: Callable[[Any], Any] = coroutine.throw
        self._place: list[None] = []
        self._interrupted = False

    def step(self, resume: Callable[[Any], Any], argument: Any) -> None:
        try:
            signal: Signal = resume(argument)
        except StopIteration:
            return
        place: list[None] = [None]
        self._place = place
        signal.on_done(partial(self._arrived, place))
        if self._run.cancel_reason is not None:
            self.interrupt()

    def _arrived(self, place: list[None], _: Signal) -> None:
        try:
            place.pop()
        except IndexError:
            return
        self.step(self.send, None)

    def interrupt(self) -> None:
        """Throw a cancellation into the coroutine where it stands; once, so that it can clean up in peace."""
        if self._interrupted:
            return
        try:
            self._place.pop()
        except IndexError:
            return  # a step is being taken; it looks at the run's cancel_reason before it stands still again
        self._interrupted = True
        self.step(self._throw, Cancelled(f"{self._run} was {self._run.cancel_reason}"))
