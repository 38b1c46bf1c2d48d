"""``penstock runs show``."""

from __future__ import annotations

import json
import shutil
import time  # noqa: TID251 (how far a run has got that is going on)
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import Cell, Column, json_option, print_facts, print_json, print_line, print_table
from penstock.cli.words import byte_count, duration, iso, local_time, state_cell

if TYPE_CHECKING:
    from penstock.cli.runs.timeline import Tree
    from penstock_history.database import Reader
    from penstock_history.records import AttemptRecord, RunRecord, StateRecord

__all__ = ("command",)

_TRIES = 200
"""Runs whose attempts are drawn one by one; each is a question to the database."""


@click.command("show")
@click.argument("run")
@click.option("--all", "everything", is_flag=True, help="Show every run inside, however many there are.")
@json_option
def command(run: str, everything: bool, as_json: bool) -> None:
    """Show a run: its states and attempts, and the runs inside it on a time line.

    A bar is dotted while the run waited, and solid while an attempt was running.
    """
    from penstock.cli.runs.access import reading, the_run
    from penstock.cli.runs.timeline import Tree

    with reading() as reader:
        found = the_run(reader, run)
        states, attempts, inside = reader.states(found.id), reader.attempts(found.id), _inside(reader, found)
        several = [each.id for each in (found, *inside) if each.attempts > 1]
        tries = {run_id: reader.attempts(run_id) for run_id in several[:_TRIES]}
    if as_json:
        print_json(_facts(found, states, attempts, inside))
        return
    print_facts(_summary(found, inside))
    print_line("")
    _print_states(found, states)
    if len(attempts) > 1 or any(attempt.worker for attempt in attempts):
        print_line("")
        _print_attempts(attempts)
    if inside:
        print_line("")
        _print_timeline(found, Tree(inside, tries, everything))


def _inside(reader: Reader, run: RunRecord) -> list[RunRecord]:
    from penstock_history.records import RunQuery

    if run.parent is None:
        return list(reader.inside(run.id))
    return reader.runs(RunQuery(kind=None, root=run.id, limit=None))[::-1]


def _facts(
    run: RunRecord, states: Iterable[StateRecord], attempts: Iterable[AttemptRecord], inside: Sequence[RunRecord]
) -> dict[str, Any]:
    from penstock.cli.runs.access import facts_of

    facts = {each.id: facts_of(each) | {"children": []} for each in (run, *inside)}
    for each in inside:
        facts[each.parent]["children"].append(facts[each.id])  # type: ignore[index]
    return {
        **facts[run.id],
        "states": [asdict(state) | {"time": iso(state.time), "due": iso(state.due)} for state in states],
        "attempts": [
            asdict(attempt) | {"started": iso(attempt.started), "ended": iso(attempt.ended)} for attempt in attempts
        ],
    }


def _summary(run: RunRecord, inside: Sequence[RunRecord]) -> Mapping[str, str | Cell | None]:
    end = time.time() if run.ended is None else run.ended
    found = sum(each.cached for each in inside)
    return {
        "run": Cell(run.name, "bold"),
        "id": str(run.id),
        run.kind: run.definition,
        "state": state_cell(run.type, run.state),
        "message": run.message,
        "tags": ", ".join(run.tags) or None,
        "created": local_time(run.created),
        "took": duration(end - run.created) + ("" if run.ended else " so far"),
        "in": run.entrypoint,
        "parameters": None if run.parameters is None else _parameters(run.parameters),
        "version": run.version,
        "parent": None if run.parent is None else str(run.parent),
        "continues": None if run.resumes is None else str(run.resumes),
        "continued by": None if run.resumed_by is None else str(run.resumed_by),
        "result": None if run.result is None else _result(run.result),
        "cache": "the value was found in the result store" if run.cached else _cache(found, inside),
    }


def _parameters(text: str) -> str | None:
    """The parameters as they would be written in a call, more or less."""
    return ", ".join(f"{name}={_in_words(value)}" for name, value in json.loads(text).items()) or None


def _in_words(value: Any) -> str:
    match value:
        case {"$type": "penstock.missing"}:
            return "(not recorded)"
        case {"$type": "penstock.stored", "value": {"type": kind}}:
            return f"(a stored {kind})"
        case {"$type": _, "value": inner}:
            return str(inner)
        case _:
            return json.dumps(value)


def _result(result: Mapping[str, Any]) -> str:
    return f"{result['type']}, {byte_count(result['size'])}: {result['key']} in {result['url']}"


def _cache(found: int, inside: Sequence[RunRecord]) -> str | None:
    return f"{found:,} of {len(inside):,} runs inside found their values in the result store" if found else None


def _print_states(run: RunRecord, states: Iterable[StateRecord]) -> None:
    print_table(
        (Column("AFTER", right=True), Column("STATE"), Column("MESSAGE", wraps=True)),
        (
            (duration(state.time - run.created), state_cell(state.type, state.name), state.message or "")
            for state in states
        ),
    )


def _print_attempts(attempts: Iterable[AttemptRecord]) -> None:
    print_table(
        (
            Column("ATTEMPT", right=True),
            Column("STARTED"),
            Column("TOOK", right=True),
            Column("ENDED AS"),
            Column("WORKER"),
        ),
        (
            (
                str(attempt.number),
                local_time(attempt.started),
                duration(attempt.seconds if attempt.ended is None else attempt.ended - attempt.started),
                attempt.state or "",
                attempt.worker or "",
            )
            for attempt in attempts
        ),
    )


def _print_timeline(run: RunRecord, tree: Tree) -> None:
    from penstock.cli.runs.timeline import draw

    width = shutil.get_terminal_size((100, 24)).columns
    for cells in draw(list(tree.lines(run)), width, time.time()):
        print_line(*cells)
