"""How a group is written into PostgreSQL: by one function, a statement for each list of the group.

The function belongs to the session that calls it. So a group is one question and one answer, and one transaction,
however far away the server is; and its text stands here, where no other version of Penstock can meet it.

All its statements can be said again without harm, and none writes a row for a run that is not there, so that a run that
was deleted meanwhile leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from penstock_history.documents import document
from penstock_history.keys import COUNTER_BITS
from penstock_history.postgresql.schema import COMPLETED
from penstock_history.records import CHANGES, FLOWS, LOGS, RESULTS, RUNS, STATES, Group

__all__ = ("RECORD", "RECORD_FUNCTION", "SETTINGS", "documents_of")

SETTINGS = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
"""Whoever writes finds rows by their keys. The plan for a table that was empty when it was made would read the whole
table for each group for as long as it is kept: after a minute, ten times slower (benchmarks/history.py)."""

RECORD = "SELECT pg_temp.record($1, $2, $3, $4, $5, $6, $7, $8)"
"""Write a group: the owner's number, whether to wait for the disk, and `documents_of` the group. False if the owner is
down as dead; then nothing was written."""


def documents_of(group: Group) -> Iterator[str | None]:
    """A group's lists, each as a JSON document, or None if it is empty."""
    lists = (group.runs, group.changes, group.states, group.flows, group.results, group.logs)
    return (_without_nul(document(rows)) if rows else None for rows in lists)


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A NUL in a JSON document, and not a backslash that is followed by these letters."""


def _without_nul(text: str) -> str:
    """A document without the one character that PostgreSQL cannot keep; another stands in for it."""
    return _NUL.sub(r"\1\\ufffd", text) if r"\u0000" in text else text


_TYPES = {
    **dict.fromkeys(("id", "parent", "root", "run", "size"), "bigint"),
    **dict.fromkeys(("position", "sequence", "attempt", "level"), "integer"),
    **dict.fromkeys(("created", "started", "ended", "seconds", "time", "due"), "double precision"),
    "type": "smallint",
    "kind": "smallint",
    "cached": "boolean",
}
"""The types of the columns that are no text."""

_KNOWN = "EXISTS (SELECT FROM penstock.runs WHERE id = (item ->> 0)::bigint)"
_PROGRESS = CHANGES[1:]
_KEPT = "started", "ended", "name"
"""What a change that does not tell it leaves as it is."""


def _values(columns: Sequence[str], instead: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where a document's rows have the value of each column."""
    casts = {name: f"({{}})::{kind}" for name, kind in _TYPES.items()} | dict(instead or {})
    return {name: casts.get(name, "{}").format(f"item ->> {at}") for at, name in enumerate(columns)}


def _insert(table: str, columns: Mapping[str, str], rows: str) -> str:
    return (
        f"INSERT INTO penstock.{table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
        f"FROM jsonb_array_elements({rows}) AS item"
    )


def _set(columns: Sequence[str], source: str) -> str:
    return ", ".join(f"{name} = {source}.{name}" for name in columns)


_TAGS = f"item -> {RUNS.index('tags')}"
_RUN = {"tags": f"CASE jsonb_typeof({_TAGS}) WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text({_TAGS})) END"}
_ADD_RUNS = f"""
    {_insert("runs", _values(RUNS, _RUN), "new_runs")}
    ON CONFLICT (id) DO UPDATE SET {_set(_PROGRESS, "excluded")}
    WHERE excluded.sequence > runs.sequence AND runs.type < {COMPLETED}"""

_CHANGE = ", ".join(f"{value} AS {name}" for name, value in _values(CHANGES).items())
_ADD_CHANGES = f"""
    UPDATE penstock.runs SET
        {_set([name for name in _PROGRESS if name not in _KEPT], "change")},
        {", ".join(f"{name} = coalesce(change.{name}, runs.{name})" for name in _KEPT)}
    FROM (SELECT {_CHANGE} FROM jsonb_array_elements(changes) AS item) AS change
    WHERE runs.id = change.run AND change.sequence > runs.sequence AND runs.type < {COMPLETED}"""

_ADD_STATES = f"{_insert('states', _values(STATES), 'new_states')} WHERE {_KNOWN} ON CONFLICT DO NOTHING"

_ADD_FLOWS = f"{_insert('flows', _values(FLOWS), 'new_flows')} WHERE {_KNOWN} ON CONFLICT (run) DO NOTHING"

_RESULT = {"type": "{}"}  # of a value, not of a state
_ADD_RESULTS = f"""
    {_insert("results", _values(RESULTS, _RESULT), "new_results")} WHERE {_KNOWN}
    ON CONFLICT (run) DO UPDATE SET {_set(RESULTS[1:], "excluded")} WHERE excluded.key IS NOT NULL"""

_LOG = _values(LOGS, {"number": f"(me::bigint << {COUNTER_BITS}) | ({{}})::bigint"})
_ADD_LOGS = f"""
    {_insert("logs", {"id": _LOG.pop("number"), "root": "runs.root", **_LOG}, "lines")}
    JOIN penstock.runs ON runs.id = {_LOG["run"]} ON CONFLICT DO NOTHING"""

RECORD_FUNCTION = f"""
    CREATE FUNCTION pg_temp.record(
        me integer, durable boolean,
        new_runs jsonb, changes jsonb, new_states jsonb, new_flows jsonb, new_results jsonb, lines jsonb
    ) RETURNS boolean LANGUAGE plpgsql AS $function$
    BEGIN
        UPDATE penstock.owners SET renewed = now() WHERE id = me AND lost IS NULL;
        IF NOT FOUND THEN RETURN false; END IF;
        IF NOT durable THEN SET LOCAL synchronous_commit = off; END IF;
        {_ADD_RUNS};
        {_ADD_CHANGES};
        {_ADD_STATES};
        {_ADD_FLOWS};
        {_ADD_RESULTS};
        {_ADD_LOGS};
        RETURN true;
    END $function$"""
