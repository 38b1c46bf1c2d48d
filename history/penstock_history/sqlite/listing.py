"""Finding runs in SQLite, newest first, without sorting and without looking at what is not asked for.

Each index ends with the time at which runs were made. So the runs of one definition, one tag, one root, or one state
of one definition come out newest first; a question about several is the merge of their cursors, as lazy as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice, product
from typing import Any

import orjson

from penstock_history.records import TYPES, Row, RunQuery
from penstock_history.sqlite.rows import JOINED, RUN
from penstock_history.sqlite.schema import COMPLETED
from penstock_history.sqlite.tree import find, inside

__all__ = ("list_runs",)


@dataclass(frozen=True, slots=True)
class _Source:
    """An index, or the part of one, that has runs newest first."""

    tables: str
    condition: str
    values: tuple[Any, ...] = ()
    order: str = "runs.created DESC, runs.id DESC"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the tree of runs to look.

    Attributes:
        root: The key of the outermost run.
        parent: The key of the run that those asked for are directly inside; None for any.
        inside: The keys of those that may be asked for; None for all but the outermost.
    """

    root: int
    parent: int | None
    inside: Container[int] | None


def list_runs(connection: sqlite3.Connection, query: RunQuery) -> Iterator[Row]:
    """The rows of the runs that a query asks for, newest first; lazy, so take them before anything else is asked."""
    place = None
    if query.root is not None or query.parent is not None:
        place = _locate(connection, query)
        if place is None:
            return iter(())
    condition, values = _conditions(query, place)
    rows: Iterator[Row] = merge(
        *(
            connection.execute(
                f"SELECT {RUN} FROM {source.tables} {JOINED} "
                f"WHERE {source.condition} AND {condition} ORDER BY {source.order}",
                (*source.values, *values),
            )
            for source in _sources(connection, query, place)
        ),
        key=lambda row: (row[1], row[0]),
        reverse=True,
    )
    if place is not None and place.inside is not None:
        inside = place.inside
        rows = (row for row in rows if row[0] in inside)
    return islice(rows, query.limit)


def _locate(connection: sqlite3.Connection, query: RunQuery) -> _Place | None:
    """Where the runs are that a query tells by the runs around them; None if there is no such place."""
    around = [find(connection, run_id) for run_id in (query.root, query.parent) if run_id is not None]
    if None in around or len({found.root for found in around if found}) != 1:
        return None
    *outer, inner = (found for found in around if found)
    top = inner if query.parent is None else next(iter(outer), None)
    return _Place(
        inner.root,
        None if query.parent is None else inner.key,
        None if top is None or top.is_root else inside(connection, top),
    )


def _sources(connection: sqlite3.Connection, query: RunQuery, place: _Place | None) -> list[_Source]:
    if query.tag is not None:
        return [
            _Source(
                "tags CROSS JOIN runs ON runs.id = tags.run",
                "tags.tag = (SELECT id FROM words WHERE word = ?)",
                (query.tag,),
                "tags.created DESC, tags.run DESC",
            )
        ]
    if place is not None:
        return [_Source("runs INDEXED BY runs_by_root", "runs.root = ?", (place.root,))]
    if query.name is not None:  # few have it, so all rows in a row and the sorting of those few cost the least
        return [_Source("runs NOT INDEXED", "true")]
    types, names = _states(query)
    if query.states and COMPLETED not in types:
        definitions = _definitions(connection, query)
        return [*_of_types(types, definitions), *_of_names(names, types, definitions)]
    if query.roots_only and query.definition is None:
        return [_Source("runs INDEXED BY runs_by_time", "runs.parent IS NULL")]
    return [
        _Source("runs INDEXED BY runs_by_definition", "runs.definition = ?", (definition,))
        for definition in _definitions(connection, query)
    ]


def _of_types(types: Sequence[int], definitions: Sequence[int]) -> Iterator[_Source]:
    for pair in product(types, definitions):
        yield _Source(
            "runs INDEXED BY runs_by_state",
            f"runs.type = ? AND runs.type <> {COMPLETED} AND runs.definition = ?",
            pair,
        )


def _of_names(names: Sequence[str], types: Sequence[int], definitions: Sequence[int]) -> Iterator[_Source]:
    """The runs whose state has such a name, but for those that are found by their types already."""
    for pair in product(names, definitions):
        yield _Source(
            "runs INDEXED BY runs_by_state_name",
            "upper(runs.state) = ? AND runs.state IS NOT NULL AND runs.definition = ? "
            f"AND runs.type NOT IN ({', '.join(map(str, types))})",
            pair,
        )


def _definitions(connection: sqlite3.Connection, query: RunQuery) -> list[int]:
    condition, values = _definition(query)
    return [key for (key,) in connection.execute(f"SELECT id FROM definitions WHERE {condition}", values)]


def _definition(query: RunQuery) -> tuple[str, list[Any]]:
    conditions: list[str] = ["true"]
    values: list[Any] = []
    if query.kind is not None:
        conditions.append("definitions.kind = ?")
        values.append(int(query.kind == "task"))
    if query.definition is not None:
        conditions.append("definitions.name = ?")
        values.append(query.definition)
    return " AND ".join(conditions), values


def _conditions(query: RunQuery, place: _Place | None) -> tuple[str, list[Any]]:
    condition, values = _definition(query)
    conditions = [condition]
    if query.states:
        types, names = _states(query)
        conditions.append(
            "(runs.type IN (SELECT value FROM json_each(?)) OR upper(runs.state) IN (SELECT value FROM json_each(?)))"
        )
        values += [orjson.dumps(types).decode(), orjson.dumps(names).decode()]
    if query.since is not None:
        conditions.append("runs.created >= ?")
        values.append(query.since)
    if place is not None:
        conditions += ["runs.root = ?", "runs.parent = ?" if place.parent is not None else "runs.parent IS NOT NULL"]
        values += [place.root] if place.parent is None else [place.root, place.parent]
    if query.name is not None:
        conditions.append("runs.name = ?")
        values.append(query.name)
    if query.roots_only:
        conditions.append("runs.parent IS NULL")
    return " AND ".join(conditions), values


def _states(query: RunQuery) -> tuple[list[int], list[str]]:
    """The types that a query names, and the names that are no type's."""
    wanted = {state.upper() for state in query.states}
    return [at for at, name in enumerate(TYPES) if name in wanted], sorted(wanted.difference(TYPES))
