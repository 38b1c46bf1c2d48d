"""New runs, by the thousand: the rows of which there are as many as tasks.

One statement takes many rows as parameters, ``VALUES (?, ...), (?, ...), ...``: a third of what it costs to take the
same rows out of a document, and the interpreter's lock is let go once for hundreds of them. The tasks of a map differ
in seven of their columns only, so the others are given once for all rows of a statement, which halves the rest
(benchmarks/history.py). Texts that repeat are given by the numbers that their tables have for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from penstock_history.documents import document, sayable
from penstock_history.records import CHANGES, Group, Row
from penstock_history.sqlite.schema import COMPLETED

__all__ = ("Definition", "add_runs", "learn_definitions", "learn_words")

Name = TypeVar("Name")

Definition = tuple[int, str]
"""The kind and the name of a flow or task."""

_MOST = 512
"""Rows that one statement takes; more do not fit into a processor's nearest memory (benchmarks/history.py)."""

_OWN = ("id", "name", "position", "created", "started", "ended", "seconds")
_COMMON = ("parent", "root", "definition", "tags", "sequence", "type", "state", "message", "attempt", "worker")


def add_runs(
    connection: sqlite3.Connection, group: Group, definitions: Mapping[Definition, int], words: Mapping[str, int]
) -> None:
    """Write a group's new runs; one that is there already is brought up to date.

    Args:
        connection: The connection, in a transaction.
        group: The group.
        definitions: The numbers of its runs' definitions.
        words: The numbers of the names of their workers.
    """
    alike: dict[Row, list[Row]] = {}
    for row in group.runs:
        # The columns as `records.RUNS` has them; this is done for every task, and a loop over names costs three times
        # that.
        id, parent, root, kind, name, definition, position, tags, created, *progress = row  # noqa: A001
        sequence, type, state, message, started, ended, attempt, worker, seconds = progress  # noqa: A001
        tags = document(tags) if tags else None
        worker = words[worker] if worker else None
        common = parent, root, definitions[kind, definition], tags, sequence, type, state, message, attempt, worker
        alike.setdefault(common, []).append((id, name, position, created, started, ended, seconds))
    for common, rows in alike.items():
        for at in range(0, len(rows), _MOST):
            _add(connection, common, rows[at : at + _MOST])


def _add(connection: sqlite3.Connection, common: Row, rows: Sequence[Row]) -> None:
    size = 1 << (len(rows) - 1).bit_length()
    filled = chain(rows, [rows[-1]] * (size - len(rows)))  # to say a row again changes nothing
    parameters = [*common, *chain.from_iterable(filled)]
    try:
        connection.execute(_statement(size), parameters)
    except UnicodeEncodeError:  # a lone surrogate, as in the name of a file that is no text
        connection.execute(_statement(size), [sayable(value) for value in parameters])


@cache
def _statement(size: int) -> str:
    common = ", ".join(f"?{number}" for number in range(1, len(_COMMON) + 1))
    own = ", ".join(f"column{number}" for number in range(1, len(_OWN) + 1))
    row = f"({', '.join('?' * len(_OWN))})"
    progress = ", ".join(f"{name} = excluded.{name}" for name in CHANGES[1:])
    # Without WHERE, SQLite takes ON CONFLICT for the condition of a join.
    return f"""
        INSERT INTO runs ({", ".join(_COMMON + _OWN)})
        SELECT {common}, {own} FROM (VALUES {", ".join([row] * size)}) WHERE true
        ON CONFLICT (id) DO UPDATE SET {progress}
        WHERE excluded.sequence > runs.sequence AND runs.type < {COMPLETED}"""


def learn_definitions(connection: sqlite3.Connection, new: Iterable[Definition]) -> dict[Definition, int]:
    """The numbers of definitions, which are added if they are not there."""
    return _learn(connection, "definitions", ("kind", "name"), {name: name for name in new})


def learn_words(connection: sqlite3.Connection, new: Iterable[str]) -> dict[str, int]:
    """The numbers of texts that are kept once, which are added if they are not there."""
    return _learn(connection, "words", ("word",), {word: (word,) for word in new})


def _learn(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], new: Mapping[Name, tuple[Any, ...]]
) -> dict[Name, int]:
    names, places = ", ".join(columns), ", ".join("?" * len(columns))
    add = f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT DO NOTHING"
    find = f"SELECT id FROM {table} WHERE ({names}) = ({places})"
    numbers = dict[Name, int]()
    for name, values in new.items():
        said = [sayable(value) for value in values]
        connection.execute(add, said)
        (numbers[name],) = connection.execute(find, said).fetchone()
    return numbers
