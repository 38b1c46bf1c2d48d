"""Finding a run by its id in SQLite, and the runs inside it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from uuid import UUID

from penstock_history.keys import Found, key_of, prefix_of

__all__ = ("find", "inside")


def find(connection: sqlite3.Connection, run_id: UUID) -> Found | None:
    """Find a run, under whichever number the process that recorded it has for its prefix."""
    numbers = connection.execute("SELECT number FROM prefixes WHERE prefix = ?", (prefix_of(run_id.int),)).fetchall()
    for (number,) in numbers:
        row = connection.execute(
            "SELECT id, root, type FROM runs WHERE id = ?", (key_of(number, run_id.int),)
        ).fetchone()
        if row is not None:
            return Found(*row)
    return None


def inside(connection: sqlite3.Connection, run: Found) -> set[int]:
    """The keys of all runs inside one, however deep."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for key, parent in connection.execute("SELECT id, parent FROM runs WHERE root = ?", (run.root,)):
        children[parent].append(key)
    found: set[int] = set()
    left = [run.key]
    while left:
        below = children[left.pop()]
        found.update(below)
        left += below
    return found
