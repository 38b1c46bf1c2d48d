"""New runs, by the thousand: the rows of which there are as many as tasks.

One statement takes many rows as parameters, ``VALUES (?, ...), (?, ...), ...``: a third of what it costs to take the
same rows out of a document, and still the interpreter's lock is let go once for a thousand of them
(benchmarks/history.py). Texts that repeat are given by the numbers that their tables have for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from penstock_history.documents import document, sayable
from penstock_history.records import CHANGES, RUNS, Group, Row
from penstock_history.sqlite.schema import COMPLETED

__all__ = ("Definition", "add_runs", "learn_definitions", "learn_words")

Name = TypeVar("Name")

Definition = tuple[int, str]
"""The kind and the name of a flow or task."""

_MOST = 1900
"""Rows that one statement takes: SQLite allows 32,766 parameters."""

_COLUMNS = [name for name in RUNS if name != "kind"]
_KIND, _DEFINITION, _WORKER = (RUNS.index(name) for name in ("kind", "definition", "worker"))


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
    rows = [_parameters(row, definitions, words) for row in group.runs]
    for at in range(0, len(rows), _MOST):
        _add(connection, rows[at : at + _MOST])


def _add(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    size = min(_MOST, 1 << (len(rows) - 1).bit_length())
    filled = chain(rows, [rows[-1]] * (size - len(rows)))  # to say a row again changes nothing
    parameters = list(chain.from_iterable(filled))
    try:
        connection.execute(_statement(size), parameters)
    except UnicodeEncodeError:  # a lone surrogate, as in the name of a file that is no text
        connection.execute(_statement(size), [sayable(value) for value in parameters])


def _parameters(row: Row, definitions: Mapping[Definition, int], words: Mapping[str, int]) -> Row:
    # The columns as `records.RUNS` has them; this is done for every task, and a loop over names costs three times that.
    id, parent, root, kind, name, definition, position, tags, *rest, worker, seconds = row  # noqa: A001
    number = definitions[kind, definition]
    tags = document(tags) if tags else None
    return id, parent, root, name, number, position, tags, *rest, words[worker] if worker else None, seconds


@cache
def _statement(size: int) -> str:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    progress = ", ".join(f"{name} = excluded.{name}" for name in CHANGES[1:])
    return f"""
        INSERT INTO runs ({", ".join(_COLUMNS)}) VALUES {", ".join([row] * size)}
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
