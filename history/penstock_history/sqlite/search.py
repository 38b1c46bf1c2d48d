"""What people mean who type a part of a run's id, or its name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from penstock_history.keys import COUNTER_BITS

__all__ = ("keys_that_fit",)

_AT_MOST = 100
_SHORTEST = 4
"""Digits that are taken for a part of an id; fewer would fit too many."""
_ID, _COUNTER = 32, COUNTER_BITS // 4
"""Hexadecimal digits of an id, and of the part that is in a key."""


def keys_that_fit(connection: sqlite3.Connection, text: str) -> list[int]:
    """The keys of runs that a text may mean: an id, the beginning or end of one, or a name; a hundred at most."""
    keys: set[int] = set()
    digits = text.strip().lower().replace("-", "")
    if _SHORTEST <= len(digits) <= _ID and not set(digits) - set("0123456789abcdef"):
        keys.update(_beginning(connection, digits))
        keys.update(_end(connection, digits))
    named = connection.execute("SELECT id FROM runs WHERE name = ? ORDER BY id DESC LIMIT ?", (text, _AT_MOST))
    keys.update(key for (key,) in named)
    return sorted(keys, reverse=True)[:_AT_MOST]


def _beginning(connection: sqlite3.Connection, digits: str) -> Iterator[int]:
    """Runs whose ids begin like this: all of a prefix, or those with counters in a range."""
    prefix, counter = digits[: _ID - _COUNTER], digits[_ID - _COUNTER :]
    first, last = (int(counter.ljust(_COUNTER, filler), 16) for filler in "0f")
    yield from _keys(
        connection,
        f"""SELECT runs.id FROM prefixes CROSS JOIN runs
        ON runs.id BETWEEN (number << {COUNTER_BITS}) + ? AND (number << {COUNTER_BITS}) + ?
        WHERE hex(prefix) LIKE ? ORDER BY runs.id DESC LIMIT {_AT_MOST}""",
        (first, last, f"{prefix}%"),
    )


def _end(connection: sqlite3.Connection, digits: str) -> Iterator[int]:
    """Runs whose ids end like this: with a counter that does, in a process whose prefix does."""
    prefix, counter = digits[:-_COUNTER], digits[-_COUNTER:]
    if len(counter) == _COUNTER:
        yield from _keys(
            connection,
            f"""SELECT runs.id FROM prefixes CROSS JOIN runs ON runs.id = (number << {COUNTER_BITS}) + ?
            WHERE hex(prefix) LIKE ? ORDER BY runs.id DESC LIMIT {_AT_MOST}""",
            (int(counter, 16), f"%{prefix}"),
        )
    else:
        yield from _keys(
            connection,
            f"SELECT id FROM runs INDEXED BY runs_by_root WHERE id & ? = ? LIMIT {_AT_MOST}",
            (16 ** len(counter) - 1, int(counter, 16)),
        )


def _keys(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> Iterator[int]:
    return (key for (key,) in connection.execute(statement, values))
