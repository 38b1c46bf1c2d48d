"""What the engine needs from outside, as protocols, and the few plain records that cross those borders.

Nothing here does anything. The engine's modules import this file and never a runner, a store or a history;
those import this file and never the engine's modules that use them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable
from uuid import UUID

__all__ = (
    "Call",
    "Clock",
    "Event",
    "FlowParameters",
    "Host",
    "LogLine",
    "Outcome",
    "Recorder",
    "Reference",
    "Report",
    "RunView",
    "Runner",
    "Sink",
    "Timer",
    "Trace",
    "Tracer",
    "Work",
)

T = TypeVar("T")


class RunView(Protocol):
    """What a runner may know of the task run that a call belongs to."""

    @property
    def id(self) -> UUID: ...
    @property
    def name(self) -> str: ...
    @property
    def tags(self) -> frozenset[str]: ...
    def describe(self) -> dict[str, Any]:
        """The facts that `penstock.runtime` shows on a worker: plain, picklable, small."""
        ...

    def shared_facts(self) -> Mapping[str, Any]:
        """Those that the runs of its task in its flow run have in common: one object for all of a batch."""
        ...

    def own_facts(self) -> dict[str, Any]:
        """The others."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class FlowParameters:
    """A flow run's parameters among the facts that its task runs share: any values, for the runner to make them travel.

    Attributes:
        values: The validated arguments by name.
    """

    values: Mapping[str, Any]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Work:
    """What all calls of one task, or of one map, have in common; a remote runner ships it once per worker.

    Attributes:
        function: The user's function.
        name: The task's name.
        constants: Arguments by name that are the same for every call (the ``unmapped`` ones of a map).
        timeout: Seconds that one attempt may take, or None.
        log_prints: Whether ``print`` inside the function becomes a log line; None leaves it to the flow.
        is_async: Whether calling the function gives a coroutine or an async generator.
        is_generator: Whether calling the function gives a (sync or async) generator; its value is the list of items.
        options: What a particular runner understands, for example ``{"resources": {"GPU": 1}}``.
        batch_size: How many calls shall travel together; None leaves it to the runner.
    """

    function: Callable[..., Any]
    name: str
    constants: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float | None = None
    log_prints: bool | None = None
    is_async: bool = False
    is_generator: bool = False
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    batch_size: int | Literal["auto"] | None = None


@dataclass(slots=True, eq=False)
class Call:
    """One attempt of one task run, as handed to a runner.

    Attributes:
        work: The function and what it shares with its siblings.
        args: This call's positional arguments; futures in them have been replaced by values or references.
        kwargs: This call's keyword arguments, likewise.
        run: The task run; `RunView.id` and `attempt` together are the fencing token.
        attempt: 1 for the first attempt of the run.
        context: The context variables of whoever submitted the run. For a runner in this process a copy for this call
            alone, with the run set as the current one, to enter the function in. A remote runner gets those that all
            calls of a map share, without the run: it reads them, and makes the run known on the worker itself.
    """

    work: Work
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    run: RunView
    attempt: int
    context: Context


@dataclass(slots=True, frozen=True)
class LogLine:
    """One log record made on a worker, on its way home."""

    logger: str
    level: int
    message: str
    created: float
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True, eq=False)
class Outcome:
    """What came of one attempt.

    Exactly one of the first three says how it ended: `error` is the user's own exception (or `errors.TimedOut`, or
    `errors.SerializationError`), `crash` says that the infrastructure failed, and with neither the attempt succeeded.

    Attributes:
        value: What the function returned, or a `Reference` to it when it stayed where it was made.
        error: What the function raised.
        crash: Why the attempt was lost.
        started: When the function was entered, seconds since the epoch on the worker's clock; 0.0 if it never was.
        ended: When the function was left, likewise.
        worker: Who ran it, for people: ``"thread-3"``, ``"pid 4711 on host"``.
        logs: Lines that have not been sent home before.
        children: Records of the runs that ran inside this one on the worker, as `RunView.describe` made them.
    """

    value: Any = None
    error: BaseException | None = None
    crash: BaseException | None = None
    started: float = 0.0
    ended: float = 0.0
    worker: str = ""
    logs: Sequence[LogLine] = ()
    children: Sequence[Mapping[str, Any]] = ()


Report: TypeAlias = Callable[[Call, Outcome], None]
"""How a runner brings an outcome home: from any thread, exactly once for every call that it accepted."""


class Reference:
    """A small, picklable handle to a value that lies elsewhere: a result store, a Dask future, a Ray object.

    A base class and not a protocol: every result of every task is asked whether it is one.
    """

    __slots__ = ()

    size: int | None
    """The value's size in bytes, if known."""

    def load(self) -> Any:
        """Bring the value here; may block."""
        raise NotImplementedError


class Runner(Protocol):
    """Where attempts execute. `penstock_runners.base.TaskRunner` states the rules and is what runners derive from."""

    remote: ClassVar[bool]
    batches: ClassVar[bool]
    ordered: ClassVar[bool]
    on_line: Callable[[Call, LogLine], None] | None

    @property
    def batch_size(self) -> int | Literal["auto"]: ...
    @property
    def batch_seconds(self) -> float: ...
    @property
    def capacity(self) -> int: ...
    @property
    def is_open(self) -> bool: ...
    def open(self, clock: Clock) -> None: ...
    def submit(self, calls: Sequence[Call], report: Report) -> None: ...
    def cancel(self, call: Call) -> bool: ...
    def help(self, call: Call) -> bool: ...
    def accepts(self, reference: Reference) -> bool: ...
    def close(self, grace: float) -> None: ...
    def duplicate(self) -> Runner: ...


class Host(Protocol):
    """What drives the engine's coroutines: the only thing that the order of work awaits.

    Attributes:
        cancellations: The exceptions by which this world says that a run is cancelled.
        admits: Whether an attempt has to wait for room; in place there always is.
    """

    cancellations: tuple[type[BaseException], ...]
    admits: bool

    def cleaning_up(self) -> AbstractContextManager[object]:
        """The block in which a cancelled run may wait: another cancellation for the same reason does not reach it."""
        ...

    async def admit(self, run: Any) -> None:
        """Wait until there is room for the run's next attempt."""
        ...

    async def perform(self, run: Any) -> Any:
        """Execute the run's function once and give its value, or raise what it raised."""
        ...

    async def wait(self, run: Any, signal: Any, timeout: float | None = None) -> bool:
        """Let the run wait for a signal; False if ``timeout`` seconds passed first."""
        ...

    async def join(self, run: Any, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run somebody's coroutine to its end, with the run as the current one."""
        ...

    async def call(self, run: Any, function: Callable[[], T]) -> T:
        """Call a hook or a callback of the user's, which may wait for other runs."""
        ...

    async def offload(self, run: Any, function: Callable[[], T], size: int = 0) -> T:
        """Call something for the run that may take its time on disk or network, without holding up anybody else.

        Args:
            run: The run.
            function: What to call.
            size: About how many bytes it keeps in memory until it returns.
        """
        ...


class Timer(Protocol):
    """Something that will happen later."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time. The system's by default; a virtual one in tests."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point, never going back."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` after ``delay`` seconds, on a thread of the clock's; it must be short and never raise."""
        ...


@dataclass(slots=True, frozen=True)
class Event:
    """One transition of one run."""

    run: Any
    sequence: int
    state: Any


class Sink(Protocol):
    """Where events go: a log, a metrics system, the history."""

    def emit(self, event: Event) -> None: ...


class Recorder(Protocol):
    """What keeps the history, as the engine sees it. Unlike a sink it is told at once, since a run may have to wait.

    Attributes:
        room: While runs begin faster than they can be written, a signal that the next has to wait for.
    """

    room: Any

    def take(self, run: Any, kind: Any, name: str | None, message: str | None, time: float) -> None:
        """Take note of a transition; called by the run's own thread, right after it was made. Never blocks."""
        ...

    def comes_first(self, run: Any) -> bool:
        """Whether a run's COMPLETED has to be written before anybody is told of it."""
        ...

    def complete(self, run: Any, state: Any) -> Any:
        """Take note of such a COMPLETED; gives a signal whose value is None, or the error that the run fails with."""
        ...

    def recorded(self, run: Any) -> Any:
        """A signal that happens once all is written that is known of a run; its value is None, or why it cannot be."""
        ...

    def begin_flow(self, run: Any) -> None:
        """Take down how a root flow run can be continued; may block."""
        ...

    def remove(self, engine: Any, timeout: float) -> None:
        """Write what is there of an engine's runs, for at most ``timeout`` seconds."""
        ...

    def take_visits(self, run: Any, records: Sequence[Mapping[str, Any]]) -> None:
        """Take note of what ran on a worker inside an attempt of a run."""
        ...


class Trace(Protocol):
    """A run's place in a distributed trace; it can be pickled, and goes along to workers."""

    @property
    def tracer(self) -> Tracer:
        """Who traces here what runs inside the run."""
        ...

    def attach(self) -> Callable[[], None]:
        """Make it the place of what happens in the current context; gives what takes that back."""
        ...


@runtime_checkable
class Tracer(Sink, Protocol):
    """A sink that also has to be there when a run takes a step, because the user's code is to know its place."""

    def trace(self, event: Event) -> None:
        """Take note of a transition, in the context of the run that makes it; a run's first gives it its `Trace`."""
        ...
