"""What the engine knows of a flow run while it lives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid5

from penstock.identity import path_of
from penstock.names import friendly_name, next_id, to_text
from penstock.ports import FlowParameters, Runner
from penstock.records import Run
from penstock.wiring import make_frontier

if TYPE_CHECKING:
    from penstock.definitions import Definition
    from penstock.dispatch import Dispatcher
    from penstock.engine import Engine
    from penstock.flows import Flow
    from penstock.futures import Future
    from penstock.identity import Kept
    from penstock.keeping import CacheCounts
    from penstock.runner_scope import RunnerScope
    from penstock.signals import Signal
    from penstock_history.resuming.frontier import Frontier

__all__ = ("FlowRun",)


class FlowRun(Run):
    """One execution of a flow.

    Attributes:
        flow: The flow.
        args: Positional arguments as given.
        kwargs: Keyword arguments as given.
        parameters: The arguments by name, validated, once the run has begun.
        own_runner: The flow's ``task_runner`` for this run, or None.
        dispatcher: What stands between the tasks submitted inside the flow and their runner, after the first one.
        runner_scope: Opens and closes it; None if somebody else does.
        persists: Whether tasks inside the run store their results where they do not say themselves.
        past: What has been done already of what is to be done inside this run, if it continues another, or tries again.
        tells_apart: Whether runs inside this one may be looked for later, here or in another process.
        live: Submitted task runs and subflow runs inside this run that have not ended.
        callbacks: The ends of the users' callbacks of runs inside this one that have not returned yet.
        failures: Submitted runs that failed; whoever looks at one takes it off by setting ``future.seen``.
        last_shared_facts: What the task run that was sent to a worker last shared with its siblings, and why.
    """

    kind = "Flow"
    own_runner: Runner | None = None
    dispatcher: Dispatcher | None = None
    runner_scope: RunnerScope | None = None
    return_states = False
    last_shared_facts: tuple[Any, Mapping[str, Any]] = (None, {})
    _facts: Mapping[str, Any] | None = None
    _shared_parameters: FlowParameters | None = None
    # Set in each instance, and so declared again, as in `TaskRun`.
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
        self.callbacks: set[Signal] = set()
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
        self.resumes, self.origin = resumes, origin
        self.past = self._past_of_all_attempts = past

    @cached_property
    def origin(self) -> UUID:
        """The id of the run, or of the first of those that were continued one after the other.

        A subflow run of a recorded flow run has the origin that its successor will have, should that be continued: one
        made of the origin around it and of the place where it stands.
        """
        if self.around is None or not self.engine.counts_positions:
            return self.id
        return uuid5(self.around.origin, repr(path_of(self)))

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
            "origin": str(self.origin),
            "name": self.name,
            "flow": self.definition.name,
            "log_prints": self.prints_to_log,
            "tags": sorted(self.tags),
            "attempt": self.attempt,
        }

    def lists(self) -> Collection[Run]:
        """The live runs that have their home in this one."""
        return self.live

    def _fenced_in(self) -> list[Run]:
        """Whatever was started inside is listed in `live`."""
        return [self]
