"""The callbacks host: a run that was submitted to a runner waits without a thread.

Its coroutine stands still at a `Signal`, and whichever thread completes the signal takes the next step: the worker
that brings an outcome, the timer thread after a retry delay, the worker of an upstream run.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (asks whether a loop runs in this thread)
import threading  # noqa: TID251 (threads for what must hold up neither a loop nor the timers)
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any, TypeVar, cast

from penstock.clock import is_timer_thread
from penstock.dispatch import Dispatcher
from penstock.errors import Cancelled, Lost
from penstock.logging import relay
from penstock.loops import LOOP_THREAD
from penstock.ports import Call, Outcome
from penstock.records import Run, TaskRun
from penstock.run import execute
from penstock.signals import Signal, call_then
from penstock.steps import take
from penstock.visited import visited

__all__ = ("CALLBACKS", "CallbacksHost", "begin", "report", "start")

T = TypeVar("T")


class CallbacksHost:
    """See `penstock.ports.Host`."""

    cancellations: tuple[type[BaseException], ...] = (Cancelled, asyncio.CancelledError)
    admits = True

    def cleaning_up(self) -> AbstractContextManager[object]:
        """A run is interrupted once in any case."""
        return nullcontext()

    async def admit(self, run: TaskRun) -> None:
        """Stand still until the runner has room; a run that was just begun by its dispatcher has been admitted."""
        if run.admitted:
            run.admitted = False
            return
        run.gate = gate = Signal(run)
        cast(Dispatcher, run.dispatcher).enqueue(run)
        await self.wait(gate)
        run.admitted = False

    async def perform(self, run: TaskRun) -> Any:
        """Hand the attempt to the runner and stand still until its outcome is home."""
        signal = run.outcome = Signal(run)
        context = run.context or copy_context()
        call = run.call = Call(run.work, run.args, run.kwargs, run, run.attempt, context.copy())
        dispatcher = cast(Dispatcher, run.dispatcher)
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
        _unpack(run, call, outcome)
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
        threading.Thread(target=call_then, args=(function, done), name="penstock-io", daemon=True).start()
        await self.wait(done)
        return done.value()  # type: ignore[no-any-return]


CALLBACKS = CallbacksHost()


def _unpack(run: TaskRun, call: Call, outcome: Outcome) -> None:
    """Log what was logged on the worker, and tell the sinks of the runs that ran there inside this one."""
    for line in outcome.logs:
        relay(call, line)
    if run.engine.sinks:
        for record in outcome.children:
            run.engine.emit(visited(record))


class _Stand:
    """Awaiting this gives the stepper the signal to stand at."""

    __slots__ = ("_signal",)

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    def __await__(self) -> Generator[Signal, None, None]:
        yield self._signal


def start(run: TaskRun, dispatcher: Dispatcher) -> None:
    """Start a run: at once if it has to wait for inputs, else when its runner has room."""
    run.dispatcher = dispatcher
    if run.inputs or run.after is not None:
        _drive(run)
    else:
        run.interrupt = _give_up
        dispatcher.enqueue(run)


def begin(run: TaskRun) -> None:
    """Let a run go on, now that its runner has room for it."""
    run.admitted = True
    gate, run.gate = run.gate, None
    if gate is not None:
        gate.complete()
    elif run.driver is None:
        _drive(run)


def report(call: Call, outcome: Outcome) -> None:
    """Take an outcome home; one that comes too late, or for an attempt that is over, meets nobody."""
    run = cast(TaskRun, call.run)
    signal = run.outcome
    if signal is not None and run.call is call and not signal.done:
        signal.complete(outcome)


def _give_up(run: Run) -> None:
    """Stop a run that has not begun: it begins after all, finds itself cancelled, and ends."""
    if isinstance(run, TaskRun) and run.dispatcher is not None and run.dispatcher.withdraw(run):
        _drive(run)


def _drive(run: TaskRun) -> None:
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
    the run. Each place where the coroutine stands has a list of one element, and popping it, which only one of them
    can, is the permission.
    """

    __slots__ = ("_interrupted", "_place", "_run", "_throw", "send")

    def __init__(self, run: TaskRun, coroutine: Coroutine[Any, Any, None]) -> None:
        self._run = run
        self.send: Callable[[Any], Any] = coroutine.send
        self._throw: Callable[[Any], Any] = coroutine.throw
        self._place: _Place | None = None
        self._interrupted = False

    def step(self, resume: Callable[[Any], Any], argument: Any) -> None:
        try:
            signal: Signal = resume(argument)
        except StopIteration:
            self._place = None  # place and stepper know each other, and the stepper knows the run
            return
        self._place = place = _Place(self)
        signal.on_done(place)
        if self._run.cancel_reason is not None:
            self.interrupt()

    def go_on(self) -> None:
        self.step(self.send, None)

    def interrupt(self) -> None:
        """Throw a cancellation into the coroutine where it stands; once, so that it can clean up in peace."""
        # Without permission a step is just being taken; it looks at the run's cancel_reason before it stands again.
        place = self._place
        if not self._interrupted and place is not None and place.leave():
            self._interrupted = True
            self.step(self._throw, Cancelled(f"{self._run} was {self._run.cancel_reason}"))


class _Place:
    """Where a coroutine stands; the callback of the signal that it stands at."""

    __slots__ = ("_permission", "_stepper")

    def __init__(self, stepper: _Stepper) -> None:
        self._stepper = stepper
        self._permission: list[None] = [None]

    def leave(self) -> bool:
        """Whether the caller may take the next step."""
        try:
            self._permission.pop()
        except IndexError:
            return False
        return True

    def __call__(self, _: Signal) -> None:
        if not self.leave():
            return
        if is_timer_thread():
            # Hooks and a sequential runner execute the user's code in this step, and every timer would wait for it.
            threading.Thread(target=take, args=(self._stepper.go_on,), name="penstock-step", daemon=True).start()
        else:
            take(self._stepper.go_on)
