"""A driver's run, on a worker: what its function finds when it asks who it is.

The state machine of the run stays with the driver. Here stands a record with the same id and name, so that
`penstock.runtime`, `get_run_logger` and ``print`` work, and so that a task that the function calls has a parent. Such
a child runs here, inline, by the engine's own code; its transitions go home with the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from penstock.context import current_run
from penstock.engine import Engine
from penstock.flow_runs import FlowRun
from penstock.flows import Flow
from penstock.ports import Event, Trace, Tracer, Work
from penstock.task_runs import TaskRun
from penstock.tasks import Task
from penstock_runners import parameters
from penstock_runners.sequential import SequentialTaskRunner

__all__ = ("enter",)


class _VisitEngine(Engine):
    """The engine of everything that happens inside one call: it writes down what it would tell sinks."""

    def __init__(self) -> None:
        super().__init__(_sequential(), history=None)
        self.sinks = (self,)
        self.records: list[Mapping[str, Any]] = []
        self._around: tuple[Mapping[str, Any] | None, FlowRun | None] = (None, None)

    def emit(self, event: Event) -> None:
        self.trace(event)
        self.records.append(_record(event))

    def flow_run_around(self, facts: Mapping[str, Any] | None, packed: bytes | None) -> FlowRun | None:
        """The driver's flow run around a call; calls of one batch come with the same facts, and get the same record.

        Args:
            facts: What the flow run said of itself.
            packed: Its parameters, if it has any.
        """
        known, flow_run = self._around
        if facts is not known:
            flow_run = None
            if facts is not None:
                flow_run = FlowRun(_flow(facts["flow"], facts["log_prints"]), (), {}, None, self)
                flow_run.parameters = {} if packed is None else parameters.unpack(facts["key"], packed)
                _be(flow_run, facts)
                flow_run.origin = UUID(facts["origin"])
            self._around = facts, flow_run
        return flow_run


def _record(event: Event) -> Mapping[str, Any]:
    run, state = event.run, event.state
    parent = run.parent
    facts = run.describe()
    facts.pop("keeping", None)
    facts.pop("driver", None)
    facts.pop("origin", None)
    facts.pop("flow_parameters", None)
    return {
        **facts,
        "kind": run.kind,
        "parent": str(parent.id) if parent is not None else None,
        "position": run.position,
        "kept": run.kept.reference.describe() if run.kept is not None else None,
        "sequence": event.sequence,
        "state": state.type.value,
        "state_name": state.name,
        "message": state.message,
        "timestamp": state.timestamp,
    }


@lru_cache(maxsize=1)
def _sequential() -> SequentialTaskRunner:
    runner = SequentialTaskRunner()
    runner.__enter__()
    return runner


def enter(
    work: Work, args: tuple[Any, ...], kwargs: Mapping[str, Any], facts: Mapping[str, Any], attempt: int
) -> Callable[[], Sequence[Mapping[str, Any]]]:
    """Make a driver's run the current one, in the current context.

    Args:
        work: The function and what it shares with its siblings.
        args: The call's positional arguments.
        kwargs: The call's keyword arguments.
        facts: What the run on the driver said of itself, shared and own.
        attempt: Which attempt this is.

    Returns:
        What gives the transitions of the runs that ran inside it, when it has ended.
    """
    engine = _spare.pop() if _spare else _VisitEngine()
    engine.persists, engine.results = facts.get("keeping", (False, None))
    engine.driver = facts.get("driver")
    engine.tracer = _go_on(facts.get("trace"))
    engine.counts_positions = "position" in facts
    flow_run = engine.flow_run_around(facts["flow_run"], facts.get("flow_parameters"))
    run = TaskRun(_task(work), args, {**work.constants, **kwargs}, flow_run, engine)
    _be(run, facts)
    run.attempt = attempt
    run.position = facts.get("position", 0)
    current_run.set(run)

    def leave() -> Sequence[Mapping[str, Any]]:
        if engine.records or engine.live:
            return engine.records
        _spare.append(engine)
        return ()

    return leave


def _go_on(trace: Trace | None) -> Tracer | None:
    """Take up the driver's trace in the current context; gives who traces here what runs inside the call."""
    if trace is None:
        return None
    trace.attach()
    return trace.tracer


# Engines in which nothing has happened; to make one for every call would cost more than all else that a call costs.
_spare: list[_VisitEngine] = []


def _be(run: TaskRun | FlowRun, facts: Mapping[str, Any]) -> None:
    run.key = facts["key"]
    run._name = facts.get("name")
    run.tags = frozenset(facts["tags"])
    run.attempt = facts["attempt"]
    run.is_async = run.definition.is_async


@lru_cache(maxsize=256)
def _task(work: Work) -> Task[..., Any]:
    return Task(work.function, name=work.name, log_prints=work.log_prints)


@lru_cache(maxsize=256)
def _flow(name: str, log_prints: bool) -> Flow[..., Any]:
    return Flow(_elsewhere, name=name, log_prints=log_prints)


def _elsewhere() -> None:
    """The function of a flow that runs on the driver."""
