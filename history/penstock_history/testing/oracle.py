"""Runs of every kind, questions about them, and a second opinion on the answers, for the conformance suite."""

from __future__ import annotations

import random  # noqa: TID251 (many runs, some alike)
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from uuid import UUID

from penstock.names import next_id
from penstock_history.database import Writer
from penstock_history.records import RunQuery, RunRecord
from penstock_history.testing.probes import EPOCH, Story

__all__ = ("fits", "many_queries", "many_runs")

_ENDS = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_NAMES = {"COMPLETED": ("Cached", "Completed"), "FAILED": ("TimedOut", "Failed")}


def many_runs(writer: Writer, chance: random.Random) -> list[RunRecord]:
    """Record flow runs with task runs and flow runs inside, in no order of time; give them newest first."""
    story = Story(writer)
    runs: list[RunRecord] = []

    def add(make: Callable[..., RunRecord], **fields: object) -> RunRecord:
        tags = tuple(chance.sample(("red", "green", "blue"), chance.choice((0, 0, 1, 2))))
        run = make(created=EPOCH + chance.randrange(1000) / 8, tags=tags, **fields)
        runs.append(run)
        return run

    for _ in range(12):
        root = add(story.begin, definition=chance.choice(("load", "report")))
        inner = add(story.done, inside=root, kind="flow", definition="report")
        for around in (root, inner):
            for _ in range(8):
                end = chance.choice(_ENDS)
                state = chance.choice(_NAMES.get(end, (end.capitalize(),)))
                definition = chance.choice(("add", "fetch", "report"))
                task = add(partial(story.done, end), inside=around, definition=definition, state=state)
                if chance.random() < 0.2:
                    add(story.begin, inside=task)
    story.write()
    return sorted(runs, key=lambda run: (run.created, run.id), reverse=True)


def many_queries(runs: list[RunRecord]) -> Iterator[RunQuery]:
    """Questions of every kind about these runs."""
    root = next(run for run in runs if run.parent is None)
    inner = next(run for run in runs if run.kind == "flow" and run.parent == root.id)
    yield RunQuery()
    for kind in ("flow", "task", None):
        base = RunQuery(kind=kind)
        yield base
        yield replace(base, roots_only=True)
        yield replace(base, since=EPOCH + 60)
        yield replace(base, name=runs[5].name)
        yield replace(base, tag="green")
        yield replace(base, tag="purple")
        for definition in ("add", "report", "nothing"):
            yield replace(base, definition=definition)
            yield replace(base, definition=definition, roots_only=True)
            yield replace(base, definition=definition, states=("failed", "CRASHED"))
        for states in (
            ("FAILED",),
            ("completed", "Crashed"),
            ("cached",),
            ("Cached", "failed"),
            ("TimedOut", "failed"),
            ("running",),
            ("odd",),
        ):
            yield replace(base, states=states)
            yield replace(base, states=states, tag="blue", since=EPOCH + 30)
            yield replace(base, states=states, roots_only=True)
        for around in (root, inner):
            yield replace(base, root=around.id)
            yield replace(base, parent=around.id, states=("failed",))
            yield replace(base, root=around.id, tag="red")
        yield replace(base, root=root.id, parent=inner.id)
        yield replace(base, root=UUID(int=next_id()))


def fits(run: RunRecord, query: RunQuery, runs: list[RunRecord]) -> bool:
    """Whether a run is what a query asks for, said as simply as can be."""
    wanted = {state.lower() for state in query.states}
    return all(
        (
            query.kind in (None, run.kind),
            not wanted or bool(wanted & {run.type.lower(), run.state.lower()}),
            query.definition in (None, run.definition),
            query.tag is None or query.tag in run.tags,
            query.since is None or run.created >= query.since,
            query.parent in (None, run.parent),
            query.root is None or is_inside(run, query.root, {other.id: other for other in runs}),
            query.name in (None, run.name),
            not query.roots_only or run.parent is None,
        )
    )


def is_inside(run: RunRecord, around: UUID, runs: dict[UUID, RunRecord]) -> bool:
    """Whether a run is inside another, however deep."""
    while run.parent is not None:
        if run.parent == around:
            return True
        run = runs[run.parent]
    return False
