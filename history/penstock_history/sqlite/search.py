"""What people mean who type a part of a run's id, or its name, as SQLite finds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from penstock_history.id_parts import AT_MOST, End, beginning_of_id, end_of_id
from penstock_history.keys import COUNTER_BITS

__all__ = ("keys_that_fit",)

_BEGINNING = f"""
    SELECT runs.id FROM prefixes CROSS JOIN runs
    ON runs.id BETWEEN (number << {COUNTER_BITS}) + ?2 AND (number << {COUNTER_BITS}) + ?3
    WHERE hex(prefix) LIKE ?1 || '%' ORDER BY runs.id DESC LIMIT {AT_MOST}"""

_END = f"""
    SELECT runs.id FROM prefixes CROSS JOIN runs ON runs.id = (number << {COUNTER_BITS}) + ?2
    WHERE hex(prefix) LIKE '%' || ?1 ORDER BY runs.id DESC LIMIT {AT_MOST}"""

_SHORT_END = f"SELECT id FROM runs INDEXED BY runs_by_root WHERE id & ? = ? LIMIT {AT_MOST}"

_NAMED = f"SELECT id FROM runs WHERE name = ? ORDER BY id DESC LIMIT {AT_MOST}"


def keys_that_fit(connection: sqlite3.Connection, text: str) -> list[int]:
    """The keys of runs that a text may mean: an id, the beginning or end of one, or a name; a hundred at most."""
    keys = {key for statement, values in _questions(text) for (key,) in connection.execute(statement, values)}
    return sorted(keys, reverse=True)[:AT_MOST]


def _questions(text: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield _NAMED, (text,)
    if beginning := beginning_of_id(text):
        yield _BEGINNING, beginning
    if end := end_of_id(text):
        yield _of_end(end)


def _of_end(end: End) -> tuple[str, tuple[object, ...]]:
    if end.has_whole_counter:
        return _END, (end.prefix, end.counter)
    return _SHORT_END, (end.mask, end.counter)
