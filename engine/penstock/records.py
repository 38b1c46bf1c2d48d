"""What the engine knows of a run while it lives.

A record has one writer, the coroutine of `penstock.run` that drives it; anybody may read it, and anybody may ask it
to stop (`Run.cancel`). Attributes that most runs never need are class attributes until somebody sets them: making a
record is a fifth of what a task costs (benchmarks/direct.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import Context, copy_context
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from penstock.context import current_run
from penstock.errors import IllegalTransition
from penstock.names import friendly_name, next_id, to_text, to_uuid
from penstock.ports import Call, Event, FlowParameters, Reference, Runner, Trace, Work
from penstock.states import TRANSITIONS, State, StateType
from penstock.wiring import make_frontier

if TYPE_CHECKING:
    from penstock.definitions import Definition
    from penstock.dispatch import Dispatcher
    from penstock.engine import Engine
    from penstock.flows import Flow
    from penstock.futures import Future
    from penstock.identity import Kept
    from penstock.keeping import CacheCounts
    from penstock.signals import Signal
    from penstock.tasks import Task
    from penstock_history.frontier import Frontier

__all__ = ("FlowRun", "Run", "TaskRun", "cancel_all")

T = TypeVar("T")


class Run:
    """One execution of a flow or a task.

    Attributes:
        engine: The engine that the run belongs to.
        parent: The run inside which this one was called or submitted, or None.
        flow_run: The nearest flow run, this one included, or None.
        scope: The nearest run, this one included, that can be cancelled by itself. A task that was called directly
            cannot: it is part of its caller.
        state: The current state; None only before the first.
        attempt: How often the function has been entered.
        tags: The run's tags.
        cancel_reason: Why the run shall stop, or None.
        waiting_on: The signal without which the run cannot go on, while it waits for one.
        future: The handle that whoever submitted the run holds; None for a direct call.
        inputs: The futures and states found in the arguments or in ``wait_for``, each with whether it may fail.
        skipped_because_of: Those of them that kept the run from starting.
        rests_on: The signals without which nothing of the run can go on; see `waiting.resting`.
        streaming: Whether the caller iterates over the run instead of waiting for its value.
        life: What the history knows of the run, if the engine records.
        seconds: How long the latest attempt's function took on its worker.
        due: When the next attempt is to begin, while the run waits for it.
        resumes: The id of the run that this one continues.
        position: Which of its siblings of the same definition the run is, from 0 in each attempt of its parent; only
            counted if the engine records.
        identity: A digest of who called the run and with what, once somebody has asked; see `penstock.identity`.
        kept: Where the value of a COMPLETED run is stored, and what it was made of; None if it is not.
        used: How many seconds of the timeout had passed when the run that this one continues was interrupted.
        trace: The run's place in a distributed trace, if the engine has a tracer.
    """

    kind = "run"
    state: State | None = None
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
    rests_on: tuple[Signal, ...] = ()
    streaming = False
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
        return 0 if self.state is None else self.state.sequence

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
    ) -> State:
        """Take the next state.

        Raises:
            IllegalTransition: If the table has no such step.
        """
        old = self.state
        if type not in (TRANSITIONS[None] if old is None else old._type.followers):
            raise IllegalTransition(f"{self} is {old} and cannot become {name or type.value.capitalize()}.")
        engine = self.engine
        self.state = state = State(type, name, message, data, engine.clock.time(), old)
        if engine.recorder is not None:
            engine.recorder.take(self, state)
        if engine.sinks:
            engine.emit(Event(self, self.sequence, state))
        return state

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
        return self.state is not None and self.state.is_final()

    @property
    def home(self) -> FlowRun | Engine:
        """Where the run is listed while it lives: the flow run around it, or the engine."""
        return self.flow_run or self.engine

    @property
    def around(self) -> FlowRun | None:
        """The nearest flow run around this run, itself not counted."""
        return None if self.parent is None else self.parent.flow_run

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
        cancel_all([self] if isinstance(self, FlowRun) else [self, *self.inside()], reason)
        return True

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


class TaskRun(Run):
    """One execution of a task.

    Attributes:
        task: The task.
        args: Positional arguments; futures among them are replaced by values before the first attempt.
        kwargs: Keyword arguments, likewise.
        runner: Where submitted attempts execute; None for a run that executes in place.
        dispatcher: What stands between the run and its runner.
        gate: Completed when the runner has room for the next attempt, while the run waits for that.
        admitted: Whether the runner has room for the attempt that is about to begin.
        call: The attempt that the runner has, while it has one.
        outcome: Completed with the `Outcome` of that attempt.
        shared: What the calls of one map have in common, where that is more than the task's own `Work`.
        crashes: How many attempts were lost.
    """

    kind = "Task"
    runner: Runner | None = None
    call: Call | None = None
    outcome: Signal | None = None
    shared: Work | None = None
    dispatcher: Dispatcher | None = None
    gate: Signal | None = None
    admitted = False
    crashes: int = 0
    _counted_crashes = 0
    # Set in each instance, and so declared again: who checks published types reads each class by itself.
    key: int
    definition: Definition[Any, Any]
    scope: Run
    flow_run: FlowRun | None
    state: State | None
    attempt: int
    after: Future[Any] | None
    driver: Any
    interrupt: Callable[[Run], None] | None
    future: Future[Any] | None
    outer_loop: Any

    def __init__(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], parent: Run | None, engine: Engine
    ) -> None:
        self.key = next_id()
        self.engine = engine
        self.parent = parent
        self.definition = task
        self.args = args
        self.kwargs = kwargs
        # Every run gets these sooner or later. Python lays out the attributes of a class by what its first instances
        # have; were they only set when a run begins, after thousands were made, each run would carry a dictionary of
        # its own, which is another object for the garbage collector (benchmarks/fanout.py).
        self.state = None
        self.attempt = 0
        self.after = None
        self.driver = self.interrupt = self.future = self.outer_loop = self._name = None
        self.worker = ""
        if parent is not None:
            self.scope = parent.scope
            self.flow_run = parent.flow_run
        else:
            self.scope = self

    @property
    def task(self) -> Task[..., Any]:
        """The task."""
        return cast("Task[..., Any]", self.definition)

    def _make_name(self) -> str:
        # The task's template filled in, or its name and the end of the id.
        return self.definition.name_run(self, f"{self.definition.name}-{self.key % 4096:03x}")

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The arguments by parameter name, defaults included; empty after the run has ended."""
        if self.is_final:
            return {}
        return self.definition.signature.bind(self.args, {**self.kwargs, **self.work.constants})

    def takes_reference(self, reference: Reference) -> bool:
        """Whether the run's runner lets its workers load the reference."""
        return self.runner is not None and self.runner.accepts(reference)

    @property
    def work(self) -> Work:
        """What this run's calls share with those of the same task or map."""
        return self.shared or self.task.work

    def promote(self) -> None:
        """Begin at once if the run waits for room: a worker wants to execute it itself."""
        if self.dispatcher is not None and (self.driver is None or self.gate is not None):
            self.dispatcher.promote(self)

    def survives_crash(self, crash: BaseException) -> bool:
        """Whether another attempt may follow one that was lost, counting this one.

        A call whose function had certainly not been entered when its worker died never ran, so that sending it again
        repeats nothing and is not counted. Otherwise the task says how often somebody's side effect may happen twice.
        """
        self.crashes += 1
        if getattr(crash, "entered", True):
            self._counted_crashes += 1
        return self._counted_crashes <= self.task.crash_retries

    def describe(self) -> dict[str, Any]:
        """The facts that `penstock.runtime` shows on a worker."""
        own = {"id": to_text(self.key), "name": self.name, "attempt": self.attempt}
        return {**self.shared_facts(), **own}

    def shared_facts(self) -> Mapping[str, Any]:
        """Those that the runs of its task in its flow run have in common: one object for all of a batch."""
        flow_run = self.flow_run
        if flow_run is None:
            return self._make_shared_facts()
        common = (self.definition, self.tags, flow_run.attempt)
        known, facts = flow_run.last_shared_facts
        if known != common:
            facts = self._make_shared_facts()
            flow_run.last_shared_facts = common, facts
        return facts

    def _make_shared_facts(self) -> Mapping[str, Any]:
        flow_run = self.flow_run
        facts: dict[str, Any] = {
            "task": self.definition.name,
            "tags": sorted(self.tags),
            "flow_run": flow_run.facts if flow_run is not None else None,
        }
        persists, results = (flow_run or self.engine).persists, self.results
        if persists or results is not None:
            facts["keeping"] = (persists, results)
        if flow_run is not None and flow_run.parameters:
            facts["flow_parameters"] = flow_run.shared_parameters
        return facts

    def own_facts(self) -> dict[str, Any]:
        """The others; a name that is made of the task's and the id is left out."""
        facts: dict[str, Any] = {"key": self.key, "attempt": self.attempt}
        if self.definition.run_name is not None:
            facts["name"] = self.name
        if self.trace is not None:
            facts["trace"] = self.trace
        return facts


class FlowRun(Run):
    """One execution of a flow.

    Attributes:
        flow: The flow.
        args: Positional arguments as given.
        kwargs: Keyword arguments as given.
        parameters: The arguments by name, validated, once the run has begun.
        own_runner: The flow's ``task_runner`` for this run, or None.
        dispatcher: What stands between the tasks submitted inside the flow and their runner, after the first one.
        owns_runner: Whether the run opens and closes it.
        persists: Whether tasks inside the run store their results where they do not say themselves.
        past: What has been done already of what is to be done inside this run, if it continues another, or tries again.
        tells_apart: Whether runs inside this one may be looked for later, here or in another process.
        live: Submitted task runs and subflow runs inside this run that have not ended.
        failures: Submitted runs that failed; whoever looks at one takes it off by setting ``future.seen``.
        last_shared_facts: What the task run that was sent to a worker last shared with its siblings, and why.
    """

    kind = "Flow"
    own_runner: Runner | None = None
    dispatcher: Dispatcher | None = None
    owns_runner = False
    return_states = False
    _origin: UUID | None = None
    last_shared_facts: tuple[Any, Mapping[str, Any]] = (None, {})
    _facts: Mapping[str, Any] | None = None
    _shared_parameters: FlowParameters | None = None
    key: int
    definition: Definition[Any, Any]
    scope: Run
    flow_run: FlowRun | None
    resumes: UUID | None
    used: float

    def __init__(
        self, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], parent: Run | None, engine: Engine
    ) -> None:
        self.key = next_id()
        self.engine = engine
        self.parent = parent
        self.definition = flow
        self.args = args
        self.kwargs = kwargs
        self.parameters: Mapping[str, Any] = {}
        self.scope = self
        self.flow_run = self
        keeping = flow.keeping.persist
        self.persists: bool = self.inherits_persistence if keeping is None else keeping
        self.live: set[Run] = set()
        self.failures: list[Future[Any]] = []
        around = self.around
        self.past: Frontier | None = around.past if around is not None else None
        self._past_of_all_attempts = self.past
        # What was kept inside, the latest attempt first; None if there is no attempt but one.
        self._attempts: list[list[Kept]] | None = [] if flow.retry.retries else None
        remembers = self._attempts is not None or (around is not None and around.tells_apart)
        self.tells_apart: bool = remembers or engine.recorder is not None

    @cached_property
    def cache(self) -> CacheCounts:
        """How often the run's tasks found a cached result."""
        from penstock.keeping import CacheCounts

        return CacheCounts()

    def continue_from(self, resumes: UUID, origin: UUID, past: Frontier) -> None:
        """Make this a run that goes on where another was interrupted.

        Args:
            resumes: That run.
            origin: The first run of those that were continued one after the other.
            past: What has been done already.
        """
        self.resumes, self._origin = resumes, origin
        self.past = self._past_of_all_attempts = past

    @property
    def origin(self) -> UUID:
        """The id of the run, or of the first of those that were continued one after the other."""
        return self._origin or self.id

    def begin_attempt(self) -> None:
        """Count one more attempt; it can find what the ones before it have kept."""
        super().begin_attempt()
        if self._attempts is not None:
            if self._attempts:
                self.past = make_frontier(self._attempts, self._past_of_all_attempts, self.engine.recorder is not None)
                self.used = 0.0
            self._attempts.insert(0, [])

    def remember(self, kept: Kept) -> None:
        """Keep in mind what was stored inside the run, for its further attempts and those of the flow runs around."""
        if self._attempts:
            self._attempts[0].append(kept)
        if self.around is not None:
            self.around.remember(kept)

    @property
    def runner(self) -> Runner:
        """Where tasks that are submitted inside the flow execute."""
        return self.own_runner or self.engine.runner

    @property
    def flow(self) -> Flow[..., Any]:
        """The flow."""
        return cast("Flow[..., Any]", self.definition)

    def _make_name(self) -> str:
        # The flow's template filled in, or two friendly words.
        return self.definition.name_run(self, friendly_name())

    @property
    def home(self) -> FlowRun | Engine:
        """Where the run is listed while it lives: the flow run around its parent, or the engine."""
        return self.around or self.engine

    @property
    def facts(self) -> Mapping[str, Any]:
        """What `describe` gives, made once for each attempt, since every task run inside the flow carries it."""
        if self._facts is None or self._facts["attempt"] != self.attempt:
            self._facts = self.describe()
        return self._facts

    @property
    def shared_parameters(self) -> FlowParameters:
        """The parameters, as one object for as long as they are the same."""
        if self._shared_parameters is None or self._shared_parameters.values is not self.parameters:
            self._shared_parameters = FlowParameters(self.parameters)
        return self._shared_parameters

    def describe(self) -> dict[str, Any]:
        """The facts that `penstock.runtime` shows on a worker."""
        return {
            "id": to_text(self.key),
            "key": self.key,
            "name": self.name,
            "flow": self.definition.name,
            "log_prints": self.prints_to_log,
            "tags": sorted(self.tags),
            "attempt": self.attempt,
        }


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
        if isinstance(run, FlowRun):
            runs += _tree(run.live)
    return runs
