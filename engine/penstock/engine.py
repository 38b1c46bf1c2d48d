"""The engine: what flows and tasks of one program share.

Without one, module-level defaults just work. An application that wants its own runner, its own place for results, or
a say in what happens at shutdown makes one and enters it; flows that are called while it is open belong to it.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (an engine can be left asynchronously)
import atexit
import os
import random  # noqa: TID251 (the chance that is handed to the policies)
import threading  # noqa: TID251 (the default runner is opened once)
from collections.abc import Callable, Sequence
from contextvars import Token
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, overload
from weakref import WeakKeyDictionary

from penstock.clock import SystemClock
from penstock.context import current_engine, current_run
from penstock.dispatch import Dispatcher
from penstock.errors import ConfigurationError, EngineClosed, InvalidCall
from penstock.events import EventBuffer
from penstock.futures import Future, wait, wait_async
from penstock.keeping import CacheCounts
from penstock.logging import engine_logger, relay
from penstock.ports import Call, Clock, Event, Outcome, Recorder, Runner, Sink, Tracer
from penstock.records import Run
from penstock.settings import settings, truth
from penstock.spilling import Spill
from penstock.task_runs import TaskRun
from penstock.wiring import as_runner, default_history, default_runner, open_history

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from penstock.flows import AsyncFlow, Flow
    from penstock_history.history import History
    from penstock_results.owners import Owner

__all__ = ("CallerCancel", "Engine", "engine_in_use", "engines_on")

P = ParamSpec("P")
R = TypeVar("R")
CallerCancel = Literal["cancel", "detach", "shield"]


class Engine:
    """What flows and tasks share: a default runner, event sinks, a clock, and a way to stop it all.

    Use it as ``async with Engine() as engine`` (in a web framework's lifespan) or ``with Engine() as engine``. Flows
    called in its scope, or anywhere in the process while it is the innermost open one, belong to it.

    Args:
        runner: Where submitted tasks of flows without a ``task_runner`` execute; a thread pool by default. It is
            opened when the engine is entered, and closed when it is left; one that is already open is left open.
        on_caller_cancel: What becomes of a flow whose awaiting caller is cancelled (a client that disconnects):
            ``"cancel"`` it too, ``"detach"`` it and let it run on, or ``"shield"`` it and hold the caller until it
            has ended.
        results: Where results are kept that have to be: a `ResultStore`, a URL or a path; by default the one that
            ``PENSTOCK_RESULTS`` names, or a folder in the user's state folder. Nothing is written there unless a
            flow or task asks for it.
        spill_bytes: Values of submitted runs that are larger than this go to the store, and futures load them on
            demand; None for no limit.
        memory_budget: Bytes that the values of submitted runs may occupy in all; what would exceed it goes to the
            store; None for no limit.
        history: Where it is recorded what becomes of runs: a `penstock.history.History`, a URL or a path; None for
            nowhere; by default what ``PENSTOCK_HISTORY`` names, if anything. (A program that makes no engine records
            into a file in the user's state folder.)
        sinks: Objects with an ``emit(event)`` method that want every transition.
        grace: Seconds that runs get to end by themselves when the engine is left, and that clean-up may take after a
            cancellation.
        clock: Where time comes from; tests hand in a virtual one.
    """

    def __init__(
        self,
        runner: Runner | type[Runner] | None = None,
        *,
        on_caller_cancel: CallerCancel = "cancel",
        results: Any = None,
        spill_bytes: int | None = None,
        memory_budget: int | None = None,
        history: History | str | os.PathLike[str] | None = "auto",
        sinks: Sequence[Sink] = (),
        grace: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        if on_caller_cancel not in ("cancel", "detach", "shield"):
            raise ConfigurationError(
                f"Engine(on_caller_cancel={on_caller_cancel!r}): give 'cancel', 'detach' or 'shield'."
            )
        _check_grace(grace)
        self.on_caller_cancel = on_caller_cancel
        self.clock: Clock = clock or SystemClock()
        self.grace = grace
        self.sinks: tuple[Sink, ...] = tuple(sinks)
        self.tracer: Tracer | None = next((sink for sink in self.sinks if isinstance(sink, Tracer)), None)
        self.chance: Callable[[], float] = random.random
        self.live: set[Run] = set()
        self.results = results
        self.spill: Spill = Spill(spill_bytes, memory_budget)
        self.persists: bool = settings("persist_results", truth, False)
        self.history: History | None = open_history(history)
        self.recorder: Recorder | None = self.history.record(self) if self.history is not None else None
        self.counts_positions: bool = self.recorder is not None
        self.driver: Owner | None = None
        self.cache: CacheCounts = CacheCounts()
        self._cache_counts: dict[str, CacheCounts] = {}
        self._events = EventBuffer(self.sinks)
        self._runner = as_runner(runner, f"Engine(runner={runner!r})")
        self._opened: Runner | None = None
        self._owns_runner = False
        self._lock = threading.Lock()
        self.dispatcher: Dispatcher | None = None
        self._dispatchers: WeakKeyDictionary[Runner, Dispatcher] = WeakKeyDictionary()
        self._tokens: list[Token[Engine | None]] = []
        self._has_been_left = False

    @property
    def runner(self) -> Runner:
        """The default runner; one that nobody named is opened when first asked for."""
        return self._opened or self._open()

    def _open(self) -> Runner:
        with self._lock:
            if self._opened is None:
                runner = self._runner or default_runner()
                self._owns_runner = not runner.is_open
                if self._owns_runner:
                    self.open_runner(runner)
                self._opened = runner
            return self._opened

    def _open_named_runner(self) -> None:
        """Start a cluster before the first task needs it, and not on the loop that the first task is submitted on."""
        if self._runner is not None:
            self._open()

    def open_runner(self, runner: Runner) -> None:
        """Open a runner on this engine's clock, its workers' log lines going where ours go; may block."""
        runner.on_line = relay
        runner.open(self.clock)

    def emit(self, event: Event) -> None:
        """Show a transition to the tracer, and put it on its way to the sinks."""
        self.trace(event)
        self.pass_on(event)

    def trace(self, event: Event) -> None:
        """Show a transition to the tracer, if there is one; one that raises is logged and changes nothing."""
        if self.tracer is None:
            return
        try:
            self.tracer.trace(event)
        except Exception:
            engine_logger.exception("The tracer %r failed on %r; the run is not affected.", self.tracer, event.state)

    def pass_on(self, event: Event) -> None:
        """Put a transition on its way to the sinks that was made here, or on a worker."""
        self._events.put(event)

    def cache_counts(self, task_name: str) -> CacheCounts:
        """How often a task found a cached result; the attribute ``cache`` counts for all tasks together."""
        return self._cache_counts.setdefault(task_name, CacheCounts())

    @property
    def events_dropped(self) -> int:
        """How many transitions the sinks missed because they did not keep up."""
        return self._events.dropped

    def dispatcher_for(
        self,
        runner: Runner,
        begin: Callable[[TaskRun], None],
        begin_without_room: Callable[[TaskRun], None],
        report: Callable[[Call, Outcome], None],
    ) -> Dispatcher:
        """What stands between ready runs and a runner; see `Dispatcher` for the arguments."""
        dispatcher = self._dispatchers.get(runner)
        if dispatcher is None:
            dispatcher = self._dispatchers.setdefault(runner, Dispatcher(runner, begin, begin_without_room, report))
        return dispatcher

    @overload
    def start(self, flow: AsyncFlow[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def start(self, flow: Flow[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    def start(self, flow: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a flow and return at once.

        An async flow runs on the caller's loop if there is one, else on the engine's loop thread; any other flow gets
        a thread. The flow does not depend on the caller any more: only its handle, or the end of the engine, stops it.

        Returns:
            A handle that can be awaited, cancelled and inspected.

        Raises:
            InvalidCall: If it is no flow.
            ParameterBindError: If the arguments do not fit the flow's signature.
            EngineClosed: If the engine has been left: nobody would wait for the flow, or stop it.
        """
        from penstock.calls import make_root_run, start_root_run
        from penstock.flows import Flow

        if not isinstance(flow, Flow):
            raise InvalidCall(_no_flow(flow))
        if self._has_been_left:
            raise EngineClosed(
                f"Engine.start({flow.name!r}): the engine has been left, and starts nothing any more. Start flows "
                "inside its `with` block, in a service between startup and shutdown, or enter the engine again."
            )
        return start_root_run(make_root_run(flow, args, kwargs, self))

    async def __aenter__(self) -> Self:
        if self.history is not None:
            self.recorder = await asyncio.to_thread(self.history.open, self)
        self._enter()
        try:
            await asyncio.to_thread(self._open_named_runner)
        except BaseException:
            self._leave()
            await asyncio.to_thread(self._close)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        await self._drain(lambda futures: wait_async(futures, self.grace))
        await asyncio.to_thread(self._close)

    def __enter__(self) -> Self:
        if self.history is not None:
            self.recorder = self.history.open(self)
        self._enter()
        try:
            self._open_named_runner()
        except BaseException:
            self._leave()
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from penstock.hosts.inline import drive

        self._leave()

        async def block(futures: list[Future[Any]]) -> None:
            wait(futures, self.grace)

        drive(self._drain(block))
        self._close()

    def _enter(self) -> None:
        _open_engines.append(self)
        self._tokens.append(current_engine.set(self))
        self._has_been_left = False

    def _leave(self) -> None:
        _open_engines.remove(self)
        token = self._tokens.pop()
        self._has_been_left = not self._tokens
        try:
            current_engine.reset(token)
        except ValueError:
            pass  # left in another context than entered, as some frameworks do: that context never saw the engine

    async def _drain(self, wait_for: Callable[[list[Future[Any]]], Coroutine[Any, Any, Any]]) -> None:
        """Let what is running end; cancel what has not ended within the grace time, and let that clean up."""
        if futures := self._unfinished():
            await wait_for(futures)
        for run in tuple(self.live):
            run.cancel("cancelled at the engine's shutdown")
        if futures := self._unfinished():
            await wait_for(futures)
            for future in self._unfinished():
                engine_logger.error("%s did not stop within %s seconds.", future.run, self.grace)

    def _unfinished(self) -> list[Future[Any]]:
        return [run.future for run in tuple(self.live) if run.future is not None and not run.future.done]

    def _close(self) -> None:
        with self._lock:  # it may just be opened on a thread that nobody waits for any more
            runner, self._opened, self.dispatcher = self._opened, None, None
        if runner is not None and self._owns_runner:
            runner.close(self.grace)
        self._events.close(self.grace)
        if self.recorder is not None:
            self.recorder.remove(self, self.grace)

    def _close_at_exit(self) -> None:
        try:
            self._close()
        except KeyboardInterrupt:
            pass  # Ctrl-C while waiting for threads that do not end: they are daemons and die with the process


def _check_grace(grace: object) -> None:
    if not isinstance(grace, int | float) or grace < 0:
        raise ConfigurationError(f"Engine(grace={grace!r}): give seconds, 0 or more.")


def _no_flow(given: object) -> str:
    """What to answer to somebody who wants something else started."""
    if isinstance(given, CoroutineType):
        given.close()  # or Python would say, too, that nobody awaited it
        return "Engine.start was given the coroutine that calling an async flow makes: write start(flow, ...) instead."
    return f"Engine.start was given {given!r}, which is no flow: decorate a function with @flow."


_open_engines: list[Engine] = []
_default: Engine | None = None


def engine_in_use() -> Engine:
    """The engine of a run that starts here: the current run's, that in scope, the innermost open, or the default."""
    run = current_run.get()
    if run is not None:
        return run.engine
    scope = current_engine.get()
    if scope is not None and not scope._has_been_left:  # as in a task that outlives the block that it was made in
        return scope
    return _open_engines[-1] if _open_engines else _default_engine()


def engines_on(clock: Clock) -> list[Engine]:
    """The open engines that take their time from this clock."""
    return [engine for engine in tuple(_open_engines) if engine.clock is clock]


def _default_engine() -> Engine:
    global _default
    if _default is None:
        _default = Engine(history=default_history())
        atexit.register(_default._close_at_exit)
    return _default
