"""What the engine knows of a task run while it lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from penstock.names import next_id, to_text
from penstock.ports import Call, Reference, Runner, Work
from penstock.records import Run
from penstock.states import States
from penstock.wiring import this_process

if TYPE_CHECKING:
    from penstock.anteroom import Anteroom
    from penstock.definitions import Definition
    from penstock.dispatch import Dispatcher
    from penstock.engine import Engine
    from penstock.flow_runs import FlowRun
    from penstock.futures import Future
    from penstock.signals import Signal
    from penstock.tasks import Task

__all__ = ("TaskRun",)

_UNCOUNTED = 10
"""How often a call may lose its worker before it was entered. Chance explains two or three times; after that it is the
call, say an argument that takes all memory when it is unpickled."""


class TaskRun(Run):
    """One execution of a task.

    Attributes:
        task: The task.
        args: Positional arguments; futures among them are replaced by values before the first attempt.
        kwargs: Keyword arguments, likewise.
        runner: Where submitted attempts execute; None for a run that executes in place.
        dispatcher: What stands between the run and its runner.
        anteroom: Where the run looks for a stored result, while it does.
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
    anteroom: Anteroom | None = None
    gate: Signal | None = None
    admitted: bool = False
    crashes: int = 0
    _counted_crashes = 0
    # Set in each instance, and so declared again: who checks published types reads each class by itself.
    key: int
    definition: Definition[Any, Any]
    scope: Run
    flow_run: FlowRun | None
    states: States
    attempt: int
    after: Future[Any] | None
    driver: Any
    interrupt: Callable[[Run], None] | None
    future: Future[Any] | None
    outer_loop: Any
    life: Any
    seconds: float | None

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
        self.states = ()
        self.attempt = 0
        self.after = None
        self.driver = self.interrupt = self.future = self.outer_loop = self._name = None
        self.gate = self.outcome = self.call = self.life = self.seconds = None
        self.admitted = False
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

    def leave_anteroom(self) -> None:
        """Let another run look for its result, if this one has not done so before."""
        if self.anteroom is not None:
            self.anteroom.leave(self)

    def survives_crash(self, crash: BaseException) -> bool:
        """Whether another attempt may follow one that was lost, counting this one.

        A call whose function had certainly not been entered when its worker died never ran, so that sending it again
        repeats nothing and is not counted, unless it would be lost again and again. Otherwise the task says how often
        somebody's side effect may happen twice.
        """
        self.crashes += 1
        may_have_run, is_hopeless = getattr(crash, "entered", True), getattr(crash, "hopeless", False)
        if may_have_run or is_hopeless or self.crashes > _UNCOUNTED:
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
            "driver": this_process(),
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
        if self.engine.counts_positions:
            facts["position"] = self.position
        if self.trace is not None:
            facts["trace"] = self.trace
        return facts
