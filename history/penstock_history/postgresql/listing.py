"""Finding runs in PostgreSQL, newest first."""

from __future__ import annotations

from typing import Any

from penstock_history.postgresql.connection import Connection, Record
from penstock_history.postgresql.rows import JOINED, RUN
from penstock_history.postgresql.tree import INSIDE, find
from penstock_history.records import TYPES, RunQuery

__all__ = ("list_runs",)


class _Conditions:
    """What has to be true of a run, and the values that it is compared with."""

    def __init__(self) -> None:
        self._conditions = ["true"]
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """Ask for one more thing; the condition has ``{}`` where each value belongs."""
        places = [f"${len(self.values) + at}" for at in range(1, len(values) + 1)]
        self._conditions.append(condition.format(*places))
        self.values += values

    def __str__(self) -> str:
        return " AND ".join(self._conditions)


async def list_runs(connection: Connection, query: RunQuery) -> list[Record]:
    """The rows of the runs that a query asks for, newest first."""
    conditions = _plain_conditions(query)
    if not await _add_place(connection, query, conditions):
        return []
    conditions.values.append(query.limit)
    return list(
        await connection.fetch(
            f"""SELECT {RUN} FROM penstock.runs {JOINED} WHERE {conditions}
            ORDER BY runs.created DESC, runs.id DESC LIMIT ${len(conditions.values)}""",
            *conditions.values,
        )
    )


def _plain_conditions(query: RunQuery) -> _Conditions:
    conditions = _Conditions()
    if query.kind is not None:
        conditions.add(f"runs.kind = {int(query.kind == 'task')}")  # no value: flow runs have an index of their own
    if query.definition is not None:
        conditions.add("runs.definition = {}", query.definition)
    if query.name is not None:
        conditions.add("runs.name = {}", query.name)
    if query.tag is not None:
        conditions.add("runs.tags @> {}::text[]", [query.tag])
    if query.since is not None:
        conditions.add("runs.created >= {}::double precision", query.since)
    if query.roots_only:
        conditions.add("runs.parent IS NULL")
    if query.states:
        _add_states(query, conditions)
    return conditions


def _add_states(query: RunQuery, conditions: _Conditions) -> None:
    wanted = {state.upper() for state in query.states}
    types = [at for at, name in enumerate(TYPES) if name in wanted]
    names = sorted(wanted.difference(TYPES))
    of_types = f"runs.type IN ({', '.join(map(str, types))})" if types else "false"
    if names:
        conditions.add(f"({of_types} OR runs.state IS NOT NULL AND upper(runs.state) = ANY({{}}::text[]))", names)
    else:
        conditions.add(of_types)  # no value: what is not COMPLETED has an index of its own


async def _add_place(connection: Connection, query: RunQuery, conditions: _Conditions) -> bool:
    """Ask for the runs inside others; False if there is no such place."""
    if query.root is not None:
        outer = await find(connection, query.root)
        if outer is None:
            return False
        if outer.is_root:
            conditions.add("runs.root = {} AND runs.parent IS NOT NULL", outer.key)
        else:
            conditions.add(f"runs.id IN {INSIDE.format(root='{0}', run='{1}')}", outer.root, outer.key)
    if query.parent is not None:
        inner = await find(connection, query.parent)
        if inner is None:
            return False
        conditions.add("runs.root = {} AND runs.parent = {}", inner.root, inner.key)
    return True
