"""Runs that ran on a worker, inside another one: what comes home of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from penstock.ports import Event
from penstock.states import State, StateType

__all__ = ("VisitedRun", "visited")


class VisitedRun:
    """What came home of a run that ran on a worker, inside another one: facts, and no life.

    Attributes:
        id: The run's id.
        name: The run's name.
        kind: ``"Task"`` or ``"Flow"``.
        parent_id: The id of the run inside which it ran.
        facts: What the worker said of it.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.id: UUID = UUID(facts["id"])
        self.name: str = facts["name"]
        self.kind: str = facts["kind"]
        self.parent_id: str | None = facts["parent"]
        self.facts = facts

    def describe(self) -> Mapping[str, Any]:
        """The facts."""
        return self.facts


def visited(records: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """The transitions that a worker wrote down."""
    states: dict[str, State] = {}
    for record in records:
        key, type_ = record["id"], StateType(record["state"])
        before, name, message = states.get(key), record["state_name"], record["message"]
        state = states[key] = State(type_, name, message, timestamp=record["timestamp"], previous=before)
        yield Event(VisitedRun(record), record["sequence"], state)
