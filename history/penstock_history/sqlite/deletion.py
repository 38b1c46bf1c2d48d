"""Deleting runs from SQLite in pieces, each small enough to be one transaction among those of busy processes."""

from __future__ import annotations

import sqlite3
from uuid import UUID

from penstock_history.keys import COUNTER_BITS, COUNTER_MASK
from penstock_history.sqlite.schema import COMPLETED
from penstock_history.sqlite.tree import find

__all__ = ("delete_piece", "forget", "vacuum_piece")

_RUNS, _LINES, _PAGES = 5_000, 20_000, 1_000
"""What a piece takes: some 50 ms each (benchmarks/history.py)."""


def delete_piece(connection: sqlite3.Connection, root: UUID) -> int | None:
    """Delete some of what is inside a root run that has ended, and it itself when nothing is left inside.

    Returns:
        How many runs went, or None if there is no such root run.
    """
    found = find(connection, root)
    if found is None or not found.is_root or found.type < COMPLETED:
        return None
    key = found.key
    lines = connection.execute(
        "DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE root = ? LIMIT ?)", (key, _LINES)
    )
    if lines.rowcount:
        return 0
    inside = [
        row
        for (row,) in connection.execute(
            "SELECT id FROM runs INDEXED BY runs_by_root WHERE root = ?1 AND id <> ?1 LIMIT ?2", (key, _RUNS)
        )
    ]
    _delete(connection, inside or [key])
    return len(inside) or 1


def forget(connection: sqlite3.Connection, owner: int | None = None) -> None:
    """Delete what is known of processes that record no more and have no runs left.

    Args:
        connection: The connection, in a transaction.
        owner: Only this process; None for all.
    """
    gone = "SELECT id FROM owners WHERE (ended IS NOT NULL OR lost IS NOT NULL) AND id = coalesce(?, id)"
    connection.execute(
        f"""DELETE FROM prefixes WHERE owner IN ({gone}) AND NOT EXISTS (
            SELECT 1 FROM runs WHERE id BETWEEN number << {COUNTER_BITS} AND (number << {COUNTER_BITS}) + {COUNTER_MASK}
        )""",
        (owner,),
    )
    connection.execute(
        f"DELETE FROM owners WHERE id IN ({gone}) AND NOT EXISTS (SELECT 1 FROM prefixes WHERE owner = owners.id)",
        (owner,),
    )


def vacuum_piece(connection: sqlite3.Connection) -> int:
    """Give some free pages back to the file system; return how many are left."""
    connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    (left,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(left)


def _delete(connection: sqlite3.Connection, runs: list[int]) -> None:
    keys = str(runs)  # a list of integers is a JSON document
    for table in ("states", "flows", "results", "requests"):
        connection.execute(f"DELETE FROM {table} WHERE run IN (SELECT value FROM json_each(?))", (keys,))
    connection.execute(
        """DELETE FROM tags WHERE (tag, created, run) IN (
            SELECT words.id, runs.created, runs.id
            FROM json_each(?) AS doomed CROSS JOIN runs ON runs.id = doomed.value
            CROSS JOIN json_each(runs.tags) AS tag CROSS JOIN words ON words.word = tag.value
        )""",
        (keys,),
    )
    connection.execute("DELETE FROM runs WHERE id IN (SELECT value FROM json_each(?))", (keys,))
