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
from functools import partial
from typing import Any, TypeVar, cast

from penstock.brief_threads import HOOK_THREADS, IO_THREADS, may_wait_here
from penstock.clock import is_timer_thread
from penstock.dispatch import Dispatcher
from penstock.errors import Cancelled, Lost
from penstock.keeping import LARGE
from penstock.logging import relay
from penstock.loops import loop_thread_for
from penstock.ports import Call, Outcome, Runner
from penstock.records import Run
from penstock.run import execute
from penstock.signals import Signal, call_then
from penstock.steps import take
from penstock.task_runs import TaskRun
from penstock.visited import visited

__all__ = ("CALLBACKS", "CallbacksHost", "begin", "begin_without_room", "report", "start")

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
        await _stand(run, gate)  # the stepper enters the run in the queue
        run.admitted = False
        run.leave_anteroom()

    async def perform(self, run: TaskRun) -> Any:
        """Hand the attempt to the runner and stand still until its outcome is home."""
        signal = run.outcome = Signal(run)
        # Whoever sends the call elsewhere only reads the context; here, one thread at a time can be in it.
        remote = cast(Runner, run.runner).remote
        context = (run.context or copy_context()) if remote else run.context_inside()
        call = run.call = Call(run.work, run.args, run.kwargs, run, run.attempt, context)
        dispatcher = cast(Dispatcher, run.dispatcher)
        dispatcher.submit(call)
        try:
            await _stand(run, signal)
        except Cancelled:
            dispatcher.cancel(call)
            raise
        finally:
            run.call = run.outcome = None
        outcome: Outcome = signal.value
        run.worker = outcome.worker
        run.seconds = outcome.ended - outcome.started if outcome.ended else None
        _unpack(run, call, outcome)
        if outcome.crash is not None:
            raise Lost(outcome.crash)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    async def wait(self, run: TaskRun, signal: Signal, timeout: float | None = None) -> bool:
        """Stand still until the signal happens."""
        await _stand(run, signal)
        return True

    async def join(self, run: TaskRun, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine on a loop thread of the engine's and stand still meanwhile."""
        done = Signal()
        run.call_in_context(partial(loop_thread_for(run).begin, coroutine, done))
        await _stand(run, done)
        return done.value()  # type: ignore[no-any-return]

    async def call(self, run: TaskRun, function: Callable[[], T]) -> T:
        """Call it here, or on a thread of its own where others wait for this one."""
        if may_wait_here():
            return function()
        done = Signal()
        HOOK_THREADS.run(partial(call_then, function, done))
        await _stand(run, done)
        return done.value()  # type: ignore[no-any-return]

    async def offload(self, run: TaskRun, function: Callable[[], T], size: int = 0) -> T:
        """Call it on a thread, while this one goes on with other runs.

        That may be the thread that submits a map, or that brings all outcomes home and gives the workers their next
        calls. It calls the function itself where a runner keeps order, where the run has room already, which others
        would wait for, and where all threads are busy: whoever brings more than the store takes has to wait. Of large
        values no more shall wait to be stored than there are workers that bring them.
        """
        done = Signal()
        context = copy_context() if run.context is None else run.context.copy()  # cache_key_fn looks at what is around

        def job() -> None:
            context.run(call_then, function, done)

        if asyncio._get_running_loop() is not None:
            run.admitted = False  # nobody keeps the room meanwhile
            IO_THREADS.run(job)
        elif size > LARGE or _has_to_be_here(run) or not IO_THREADS.run_now(job):
            return context.run(function)
        await _stand(run, done)
        return done.value()  # type: ignore[no-any-return]


CALLBACKS = CallbacksHost()


def _has_to_be_here(run: TaskRun) -> bool:
    return run.admitted or cast(Runner, run.runner).ordered or IO_THREADS.are_here


def _unpack(run: TaskRun, call: Call, outcome: Outcome) -> None:
    """Log what was logged on the worker, and tell of the runs that ran there inside this one."""
    for line in outcome.logs:
        relay(call, line)
    if outcome.children and run.engine.recorder is not None:
        run.engine.recorder.take_visits(run, outcome.children)
    if run.engine.sinks:
        for event in visited(outcome.children):
            run.engine.pass_on(event)


def _stand(run: TaskRun, signal: Signal) -> _Stepper:
    """What a run's coroutine awaits to stand still until a signal happens: its stepper, which hands out the signal."""
    stepper: _Stepper = run.driver
    stepper.next = signal
    return stepper


def start(run: TaskRun, dispatcher: Dispatcher) -> None:
    """Start a run: at once if it has to wait for inputs, else when its runner has room."""
    run.dispatcher = dispatcher
    if run.inputs or run.after is not None:
        begin_without_room(run)
    else:
        run.interrupt = _give_up
        dispatcher.receive(run)


def begin(run: TaskRun) -> None:
    """Let a run go on, now that its runner has room for it."""
    run.admitted = True
    gate, run.gate = run.gate, None
    if gate is not None:
        gate.complete()
    elif run.driver is None:
        begin_without_room(run)


def report(call: Call, outcome: Outcome) -> None:
    """Take an outcome home; one that comes too late, or for an attempt that is over, meets nobody."""
    run = cast(TaskRun, call.run)
    signal = run.outcome
    if signal is not None and run.call is call and not signal.done:
        signal.complete(outcome)


def _give_up(run: Run) -> None:
    """Stop a run that has not begun: it begins after all, finds itself cancelled, and ends."""
    if isinstance(run, TaskRun) and run.dispatcher is not None and run.dispatcher.withdraw(run):
        begin_without_room(run)


def begin_without_room(run: TaskRun) -> None:
    """Let a run begin that has something to do before it needs room, or nothing any more."""
    run.driver = stepper = _Stepper(run, execute(run, CALLBACKS))
    run.interrupt = _interrupt
    stepper.go_on()


def _interrupt(run: Run) -> None:
    stepper: _Stepper | None = run.driver
    if stepper is not None:  # None: the run has just ended
        stepper.interrupt()


class _Stepper:
    """Takes a coroutine from signal to signal; it is itself the callback of the signal at which the coroutine stands.

    Two may want to take the next step at the same moment: the thread that completes the signal, and one that cancels
    the run. The signal gives its callback away once, to its own completion or to whoever takes it back, and who gets
    it may take the step.
    """

    __slots__ = ("_coroutine", "_interrupted", "_run", "_signal", "next")

    def __init__(self, run: TaskRun, coroutine: Coroutine[Any, Any, None]) -> None:
        self._run = run
        self._coroutine = coroutine
        self._signal: Signal | None = None
        self.next: Signal | None = None
        self._interrupted = False

    # Awaiting it suspends the coroutine once, unless the signal has happened. A generator would do the same, but there
    # are thousands of calls on their way, and what each of them is made of costs the garbage collector
    # (benchmarks/processes.py).

    def __await__(self) -> Generator[Signal, None, None]:
        return cast("Generator[Signal, None, None]", self)

    def __iter__(self) -> _Stepper:
        return self

    def __next__(self) -> Signal:
        signal, self.next = self.next, None
        if signal is None or signal.done:
            raise StopIteration
        return signal

    def go_on(self) -> None:
        self._step(self._coroutine.send, None)

    def interrupt(self) -> None:
        """Throw a cancellation into the coroutine where it stands; once, so that it can clean up in peace.

        It is too late for a run whose work is done and whose value is on its way to the store: nothing would be saved,
        and whoever goes on later would do the work again.
        """
        if self._run.storing:
            return
        # If the callback is gone, a step is just being taken; it looks at the run's cancel_reason when it stands again.
        signal = self._signal
        if not self._interrupted and signal is not None and signal.forget(self):
            self._interrupted = True
            self._step(self._coroutine.throw, Cancelled(f"{self._run} was {self._run.cancel_reason}"))

    def _step(self, resume: Callable[[Any], Any], argument: Any) -> None:
        try:
            self._signal = signal = resume(argument)
        except StopIteration:
            self._signal = None
            self._run.leave_anteroom()
            return
        run = self._run
        signal.on_done(self)
        if run.cancel_reason is not None:
            self.interrupt()
        elif signal is run.gate:
            # Not sooner: a run that got room before it stands here would miss its batch, and take no room.
            cast(Dispatcher, run.dispatcher).enqueue(run)

    def __call__(self, _: Signal) -> None:
        if is_timer_thread():
            # Hooks and a sequential runner execute the user's code in this step, and every timer would wait for it.
            threading.Thread(target=take, args=(self.go_on,), name="penstock-step", daemon=True).start()
        else:
            take(self.go_on)
