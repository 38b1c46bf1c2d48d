"""What the engine knows of a run while it lives: what task runs and flow runs have in common.

A record has one writer, the coroutine of `penstock.run` that drives it; anybody may read it, and anybody may ask it
to stop (`Run.cancel`). Attributes that most runs never need are class attributes until somebody sets them: making a
record is a fifth of what a task costs (benchmarks/direct.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import Context, copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from penstock.context import current_run
from penstock.errors import IllegalTransition
from penstock.names import to_uuid
from penstock.ports import Event, Reference, Trace
from penstock.states import State, States, StateType, has_ended, may_follow, sequence_of

if TYPE_CHECKING:
    from penstock.definitions import Definition
    from penstock.engine import Engine
    from penstock.flow_runs import FlowRun
    from penstock.futures import Future
    from penstock.identity import Kept
    from penstock.signals import Signal
    from penstock.task_runs import TaskRun

__all__ = ("Run", "cancel_all")

T = TypeVar("T")


class Run:
    """One execution of a flow or a task.

    Attributes:
        engine: The engine that the run belongs to.
        parent: The run inside which this one was called or submitted, or None.
        flow_run: The nearest flow run, this one included, or None.
        scope: The nearest run, this one included, that can be cancelled by itself. A task that was called directly
            cannot: it is part of its caller.
        states: The states that the run has had, as plain values.
        attempt: How often the function has been entered.
        tags: The run's tags.
        cancel_reason: Why the run shall stop, or None.
        waiting_on: The signal without which the run cannot go on, while it waits for one.
        future: The handle that whoever submitted the run holds; None for a direct call.
        inputs: The futures and states found in the arguments or in ``wait_for``, each with whether it may fail.
        skipped_because_of: Those of them that kept the run from starting.
        rests: What it rests on: None, a `edges.resting`, or as the keys of a dictionary several.
        streaming: Whether the caller iterates over the run instead of waiting for its value.
        life: What the history knows of the run, if the engine records.
        seconds: How long the latest attempt's function took on its worker.
        due: When the next attempt is to begin, while the run waits for it.
        resumes: The id of the run that this one continues.
        position: Which of its siblings of the same definition the run is, from 0 in each attempt of its parent; only
            counted if the engine records.
        identity: A digest of who called the run and with what, once somebody has asked; see `penstock.identity`.
        storing: Whether its value is being stored, by a thread that nothing stops.
        kept: Where the value of a COMPLETED run is stored, and what it was made of; None if it is not.
        used: How many seconds of the timeout had passed when the run that this one continues was interrupted.
        trace: The run's place in a distributed trace, if the engine has a tracer.
    """

    kind = "run"
    states: States = ()
    attempt: int = 0
    cancel_reason: str | None = None
    waiting_on: Signal | None = None
    future: Future[Any] | None = None
    tags: frozenset[str] = frozenset()
    _name: str | None = None
    flow_run: FlowRun | None = None
    is_async = False
    # What drives the run, if it is driven by itself: its asyncio task, or the stepper of the callbacks host; and how
    # to stop it there. A plain function, called with the run: one object for all runs instead of one for each.
    driver: Any = None
    interrupt: Callable[[Run], None] | None = None
    # Whether anything was ever submitted or started from inside the run.
    has_inside = False
    # What wakes the threads that are blocked on behalf of the run; see waiting.block.
    bells: Sequence[Callable[[], None]] = ()
    # How often the asyncio task around a flow had been cancelled when the flow began.
    cancellations_around = 0
    # The loop that was running in the thread when the run began; see calls.waits_for_coroutines.
    outer_loop: Any = None
    inputs: Sequence[tuple[Any, bool]] = ()
    skipped_because_of: tuple[Future[Any], ...] = ()
    rests: Any = None
    streaming = False
    storing = False
    position = 0
    identity: str | None = None
    kept: Kept | None = None
    used: float = 0.0
    trace: Trace | None = None
    context: Context | None = None
    worker = ""
    life: Any = None
    seconds: float | None = None
    due: float | None = None
    resumes: UUID | None = None
    _positions: Mapping[str, Iterator[int]] | None = None
    # What this run submitted last, and the sibling that a submitted run has to let go first, on an ordered runner.
    tail: TaskRun | None = None
    after: Future[Any] | None = None

    definition: Definition[Any, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    engine: Engine
    parent: Run | None
    scope: Run
    key: int

    @property
    def id(self) -> UUID:
        """The run's id."""
        return to_uuid(self.key)

    @property
    def state(self) -> State | None:
        """The current state; None only before the first."""
        return State.latest(self.states) if self.states else None

    @property
    def history(self) -> list[State]:
        """Every state that the run has had; the position in it, from 1, is the transition's sequence number."""
        states: list[State] = []
        state = self.state
        while state is not None:
            states.append(state)
            state = state.previous
        return states[::-1]

    @property
    def sequence(self) -> int:
        """How many transitions the run has made."""
        return sequence_of(self.states)

    @property
    def direct(self) -> bool:
        """Whether the run was called, not submitted, so that its parent cannot go on before it ends."""
        return self.future is None and self.parent is not None

    def become(
        self,
        type: StateType,  # noqa: A002 (the field's name in State)
        name: str | None = None,
        message: str | None = None,
        data: Any = None,
    ) -> None:
        """Take the next state.

        Raises:
            IllegalTransition: If the table has no such step.
        """
        past, engine = self.states, self.engine
        if not may_follow(past, type):
            raise IllegalTransition(f"{self} is {self.state} and cannot become {name or type.value.capitalize()}.")
        now = engine.clock.time()
        self.states = states = (*past, type._value_, name, message, data, now)
        if engine.recorder is not None:
            engine.recorder.take(self, type, name, message, now)
        if engine.sinks:
            engine.emit(Event(self, sequence_of(states), State.latest(states)))

    def take_on(self, state: State) -> None:
        """Take a state that somebody has made as the next one.

        Raises:
            IllegalTransition: If the table has no such step.
        """
        self.become(state.type, state.own_name, state.message, state.data)

    def begin_attempt(self) -> None:
        """Count one more attempt; what it calls is counted from the beginning again."""
        self.attempt += 1
        if self._positions is not None:
            self._positions = None

    def next_position(self, definition: str) -> int:
        """The position of the next run of a definition inside this one."""
        positions = self._positions
        if positions is None:
            positions = self._positions = defaultdict(count)
        return next(positions[definition])

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return has_ended(self.states)

    @property
    def rests_on(self) -> Sequence[Signal]:
        """The signals without which nothing of the run can go on; see `edges.resting`."""
        rests = self.rests
        if rests is None:
            return ()
        return [rest.signal for rest in tuple(rests)] if type(rests) is dict else (rests.signal,)

    @property
    def home(self) -> FlowRun | Engine:
        """Where the run is listed while it lives: the flow run around it, or the engine."""
        return self.flow_run or self.engine

    @property
    def around(self) -> FlowRun | None:
        """The nearest flow run around this run, itself not counted."""
        return None if self.parent is None else self.parent.flow_run

    @property
    def keeps(self) -> bool:
        """Whether the run looks for a stored result, and stores its own."""
        persists = self.definition.persists
        return self.inherits_persistence if persists is None else persists

    @property
    def inherits_persistence(self) -> bool:
        """Whether a run stores its result whose definition does not say: as the flow around, or else the settings."""
        flow_run = self.parent.flow_run if self.parent is not None else None
        return flow_run.persists if flow_run is not None else self.engine.persists

    @property
    def results(self) -> Any:
        """Where results are kept of runs that do not say: what the nearest flow around says, then the engine."""
        flow_run = self.flow_run
        while flow_run is not None:
            if flow_run.flow.keeping.storage is not None:
                return flow_run.flow.keeping.storage
            flow_run = flow_run.parent.flow_run if flow_run.parent is not None else None
        return self.engine.results

    @property
    def prints_to_log(self) -> bool:
        """Whether ``print`` inside the run becomes a log line; what a run leaves open, its parent decides."""
        mine = self.definition.log_prints
        if mine is not None:
            return mine
        around = self.parent if self.parent is not None else self.flow_run
        return around is not None and around is not self and around.prints_to_log

    def call_in_context(self, function: Callable[[], T]) -> T:
        """Call something on behalf of the run, with the run as the current one."""
        return self.context_inside().run(function)

    def context_inside(self) -> Context:
        """A copy of the context in which the run was called or submitted, with the run as the current one."""
        context = (self.context or copy_context()).copy()
        context.run(current_run.set, self)
        if self.trace is not None:
            context.run(self.trace.attach)
        return context

    def takes_reference(self, reference: Reference) -> bool:
        """Whether the function's arguments may hold the reference itself, because its worker can load it."""
        return False

    def survives_crash(self, crash: BaseException) -> bool:
        """Whether another attempt may follow one that was lost, counting this one."""
        return False

    def promote(self) -> None:
        """Begin at once if the run waits for room: a worker wants to execute it itself."""

    def inside(self) -> list[Run]:
        """The live runs that were started from inside this one, however deep."""
        if not self.has_inside:
            return []
        return [run for run in _tree(self.home.live) if run is not self and run.is_inside(self)]

    def is_inside(self, other: Run) -> bool:
        """Whether ``other`` is this run, or around it."""
        run: Run | None = self
        while run is not None and run is not other:
            run = run.parent
        return run is other

    def cancel(self, reason: str = "cancelled by request") -> bool:
        """Ask the run and everything started from inside it to stop.

        Nothing of it starts afterwards. A coroutine is cancelled where it awaits; a function on a thread cannot be
        stopped, its outcome is dropped and `penstock.runtime.overdue` lists it until it ends.

        Args:
            reason: What the run's last state shall say.

        Returns:
            False if the run had already ended.
        """
        if self.is_final:
            return False
        cancel_all(self._fenced_in(), reason)
        return True

    def lists(self) -> Collection[Run]:
        """The live runs that have their home in this one."""
        return ()

    def _fenced_in(self) -> list[Run]:
        """What has to be cancelled with the run, besides what lives inside the flow runs among it."""
        return [self, *self.inside()]

    def wake(self) -> None:
        """Let the run find out that it was cancelled, wherever it waits."""
        for ring in tuple(self.bells):
            ring()
        if self.interrupt is not None:
            self.interrupt(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state}>"

    def __str__(self) -> str:
        return f"{self.kind} run {self.name!r}"

    @property
    def name(self) -> str:
        """What people call the run; made up when somebody first asks."""
        if self._name is None:
            self._name = self._make_name()
        return self._name

    def _make_name(self) -> str:
        raise NotImplementedError


def cancel_all(runs: Collection[Run], reason: str) -> None:
    """Cancel runs, with everything inside the flow runs among them.

    First the fence, then the blows: what the end of one run would let begin finds itself cancelled already. The fence
    is put up from the outside in, which is the order of creation: a run may look at it meanwhile, and where it ends for
    that reason its caller has to know the reason too, or would take it for a failure. And it is looked over until it
    has no gap: a run may have begun after the list was made and before its caller was fenced in.
    """
    while outside := [run for run in _tree(runs) if run.cancel_reason is None]:
        for run in sorted(outside, key=lambda run: run.key):
            run.cancel_reason = reason
    for run in _tree(runs):
        run.wake()


def _tree(live: Iterable[Run]) -> list[Run]:
    """Live runs, and those inside the flow runs among them."""
    runs: list[Run] = []
    for run in tuple(live):
        runs.append(run)
        runs += _tree(run.lists())
    return runs
