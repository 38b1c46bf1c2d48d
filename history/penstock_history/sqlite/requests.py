"""What other processes want of runs, in SQLite: rows that the runs' owner takes."""

from __future__ import annotations

import sqlite3
import time  # noqa: TID251 (when it was asked for)
from uuid import UUID

from penstock_history.keys import COUNTER_BITS, to_uuid
from penstock_history.sqlite.schema import COMPLETED
from penstock_history.sqlite.tree import find

__all__ = ("are_there", "put", "take")


def put(connection: sqlite3.Connection, run_id: UUID) -> bool:
    """Ask for a run to be cancelled; False if there is no such run, or it has ended."""
    found = find(connection, run_id)
    if found is None or found.type >= COMPLETED:
        return False
    connection.execute(
        """INSERT INTO requests (run, owner, time) SELECT ?1, owner, ?2 FROM prefixes WHERE number = ?3
        ON CONFLICT (run) DO UPDATE SET time = ?2""",
        (found.key, time.time(), found.key >> COUNTER_BITS),
    )
    return True


def are_there(connection: sqlite3.Connection, owner: int) -> bool:
    """Whether anything is asked of a process's runs."""
    return connection.execute("SELECT 1 FROM requests WHERE owner = ?", (owner,)).fetchone() is not None


def take(connection: sqlite3.Connection, owner: int) -> list[UUID]:
    """Give the runs of a process that others want cancelled, and forget that they do."""
    keys = connection.execute("DELETE FROM requests WHERE owner = ? RETURNING run", (owner,)).fetchall()
    prefix = "SELECT prefix FROM prefixes WHERE number = ?"
    return [to_uuid(connection.execute(prefix, (key >> COUNTER_BITS,)).fetchone()[0], key) for (key,) in keys]
