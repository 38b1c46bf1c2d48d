"""How a group is written into SQLite: one statement for each of its lists, but for its new runs (`runs`).

All of them can be said again without harm, and none writes a row for a run that is not there, so that a run that was
deleted meanwhile leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from penstock_history.keys import COUNTER_BITS
from penstock_history.records import CHANGES, FLOWS, LOGS, RESULTS, RUNS, STATES, Group, Row
from penstock_history.sqlite.runs import Definition
from penstock_history.sqlite.schema import COMPLETED

__all__ = ("definitions_of", "statements", "words_of")

_KIND, _DEFINITION, _TAGS = (RUNS.index(name) for name in ("kind", "definition", "tags"))
_WORKERS = RUNS.index("worker"), CHANGES.index("worker"), STATES.index("worker")
_LOGGER = LOGS.index("logger")
_RESULT_WORDS = "url", "type", "code"


def definitions_of(group: Group) -> set[Definition]:
    """The definitions that a group's rows name."""
    return {(row[_KIND], row[_DEFINITION]) for row in group.runs}


def words_of(group: Group) -> set[str]:
    """The texts that a group's rows name and that are kept once."""
    words: set[str | None] = set()
    for rows, worker in zip((group.runs, group.changes, group.states), _WORKERS, strict=True):
        words.update({row[worker] for row in rows})
    words.update(row[_LOGGER] for row in group.logs)
    for at in map(RESULTS.index, _RESULT_WORDS):
        words.update(row[at] for row in group.results)
    for row in group.runs:
        if row[_TAGS]:
            words.update(row[_TAGS])
    return {word for word in words if word is not None}


def statements(group: Group) -> Iterator[tuple[str, Sequence[Row]]]:
    """The statements that write what a group says besides its new runs, each with the rows that it is about."""
    rows: tuple[tuple[str, Sequence[Row]], ...] = (
        (_ADD_TAGS, [row for row in group.runs if row[_TAGS]]),
        (_ADD_CHANGES, group.changes),
        (_ADD_STATES, group.states),
        (_ADD_FLOWS, group.flows),
        (_ADD_RESULTS, group.results),
        (_ADD_LOGS, group.logs),
    )
    return (pair for pair in rows if pair[1])


_WORD = "(SELECT id FROM words WHERE word = {})"
_KNOWN = "EXISTS (SELECT 1 FROM runs WHERE id = value ->> 0)"
_PROGRESS = CHANGES[1:]
_KEPT = "started", "ended", "name"
"""What a change that does not tell it leaves as it is."""


def _values(columns: Sequence[str], instead: Mapping[str, str]) -> dict[str, str]:
    """Where a document's rows have the value of each column."""
    return {name: instead.get(name, "{}").format(f"value ->> {at}") for at, name in enumerate(columns)}


def _insert(table: str, columns: Mapping[str, str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM json_each(:rows)"


def _set(columns: Sequence[str], source: str) -> str:
    return ", ".join(f"{name} = {source}.{name}" for name in columns)


_ADD_TAGS = f"""
    INSERT INTO tags (tag, created, run)
    SELECT words.id, row.value ->> {RUNS.index("created")}, row.value ->> 0
    FROM json_each(:rows) AS row CROSS JOIN json_each(row.value, '$[{_TAGS}]') AS tag
    CROSS JOIN words ON words.word = tag.value WHERE true ON CONFLICT DO NOTHING"""

_CHANGE = _values(CHANGES, {"worker": _WORD})
_ADD_CHANGES = f"""
    WITH change ({", ".join(_CHANGE)}) AS MATERIALIZED (SELECT {", ".join(_CHANGE.values())} FROM json_each(:rows))
    UPDATE runs SET
        {_set([name for name in _PROGRESS if name not in _KEPT], "change")},
        {", ".join(f"{name} = coalesce(change.{name}, runs.{name})" for name in _KEPT)}
    FROM change
    WHERE runs.id = change.run AND change.sequence > runs.sequence AND runs.type < {COMPLETED}"""

_ADD_STATES = f"{_insert('states', _values(STATES, {'worker': _WORD}))} WHERE {_KNOWN} ON CONFLICT DO NOTHING"

_ADD_FLOWS = f"{_insert('flows', _values(FLOWS, {}))} WHERE {_KNOWN} ON CONFLICT (run) DO NOTHING"

_ADD_RESULTS = f"""
    {_insert("results", _values(RESULTS, dict.fromkeys(_RESULT_WORDS, _WORD)))} WHERE {_KNOWN}
    ON CONFLICT (run) DO UPDATE SET {_set(RESULTS[1:], "excluded")} WHERE excluded.key IS NOT NULL"""

_LOG = _values(LOGS, {"number": f":owner << {COUNTER_BITS} | {{}}", "logger": _WORD})
_ADD_LOGS = f"""
    {_insert("logs", {"id": _LOG.pop("number"), "root": "runs.root", **_LOG})}
    CROSS JOIN runs ON runs.id = value ->> {LOGS.index("run")} WHERE true ON CONFLICT DO NOTHING"""
