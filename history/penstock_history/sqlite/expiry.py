"""Which root runs a history in SQLite should part with."""

from __future__ import annotations

import sqlite3
import time  # noqa: TID251 (how old a run is)
from collections.abc import Iterator

from penstock_history.sqlite.schema import COMPLETED

__all__ = ("expired_roots", "used_bytes")


def expired_roots(
    connection: sqlite3.Connection, age: float | None, count: int | None, size: int | None
) -> Iterator[int]:
    """The keys of the root runs that are too old, too many or too much, oldest first; see `Reader.expired`."""
    before = float("-inf") if age is None else time.time() - age
    too_many = 0 if count is None else _ended_roots(connection) - count
    too_much = 0.0 if size is None else _runs_in(connection, used_bytes(connection) - size)
    rows = connection.execute(
        f"""SELECT id, created, ended, (SELECT count(*) FROM runs AS inner WHERE inner.root = runs.id)
        FROM runs INDEXED BY runs_by_time WHERE parent IS NULL AND type >= {COMPLETED} ORDER BY created, id"""
    )
    for key, created, ended, runs in rows:
        if max(too_many, too_much) > 0 or ended < before:
            yield key
            too_many -= 1
            too_much -= runs
        elif created >= before:
            return


def used_bytes(connection: sqlite3.Connection) -> int:
    """How much of the file, and of its log, has something in it."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _ended_roots(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute(
        f"SELECT count(*) FROM runs INDEXED BY runs_by_time WHERE parent IS NULL AND type >= {COMPLETED}"
    ).fetchone()
    return int(count)


def _runs_in(connection: sqlite3.Connection, size: int) -> float:
    """How many runs take so many bytes, if all take the same."""
    (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    return size / max(1, used_bytes(connection)) * int(count)
