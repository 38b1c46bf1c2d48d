"""What a history in SQLite writes down about the processes that record."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from uuid import UUID

from penstock_history.keys import COUNTER_BITS, COUNTER_MASK, key_of, to_uuid
from penstock_history.records import OwnerRecord
from penstock_history.sqlite.deletion import forget
from penstock_history.sqlite.schema import CRASHED, GOES_ON

__all__ = ("bury", "end", "is_recording", "number_of_prefix", "register")


def register(connection: sqlite3.Connection, owner: OwnerRecord) -> int:
    """Write down a process that begins to record, and give its number."""
    (number,) = connection.execute(
        "INSERT INTO owners (pid, host, started) VALUES (?, ?, ?) RETURNING id", (owner.pid, owner.host, owner.started)
    ).fetchone()
    return int(number)


def is_recording(connection: sqlite3.Connection, owner: int) -> bool:
    """Whether a process is still known, and not as a dead one."""
    row = connection.execute("SELECT lost FROM owners WHERE id = ?", (owner,)).fetchone()
    return row is not None and row[0] is None


def number_of_prefix(connection: sqlite3.Connection, owner: int, prefix: bytes) -> int:
    """The number that a process has for a prefix; it gets one if it has none."""
    connection.execute(
        "INSERT INTO prefixes (owner, prefix) VALUES (?, ?) ON CONFLICT (owner, prefix) DO NOTHING", (owner, prefix)
    )
    (number,) = connection.execute(
        "SELECT number FROM prefixes WHERE owner = ? AND prefix = ?", (owner, prefix)
    ).fetchone()
    return int(number)


def bury(connection: sqlite3.Connection, is_alive: Callable[[int], bool], now: float) -> list[UUID]:
    """Mark what dead processes left unfinished as CRASHED, and give the root runs among it."""
    recording = connection.execute("SELECT id, pid, host FROM owners WHERE ended IS NULL AND lost IS NULL").fetchall()
    roots: list[UUID] = []
    for owner, pid, host in recording:
        if is_alive(owner):
            continue
        connection.execute("UPDATE owners SET lost = ? WHERE id = ?", (now, owner))
        message = f"owner_lost: process {pid} on {host} ended, or was killed, before the run did."
        numbers = connection.execute("SELECT number, prefix FROM prefixes WHERE owner = ?", (owner,))
        for number, prefix in numbers.fetchall():
            crashed = _crash(connection, number, message, now)
            roots += (to_uuid(prefix, key) for key, root in crashed if key == root)
    return roots


def end(connection: sqlite3.Connection, owner: int, now: float) -> None:
    """Write down that a process records no more; what it left unfinished is for `bury`."""
    unfinished = f"""SELECT 1 FROM runs INDEXED BY runs_by_state
        JOIN prefixes ON prefixes.number = runs.id >> {COUNTER_BITS}
        WHERE {GOES_ON} AND prefixes.owner = owners.id"""
    connection.execute(f"UPDATE owners SET ended = ? WHERE id = ? AND NOT EXISTS ({unfinished})", (now, owner))
    forget(connection, owner)


def _crash(connection: sqlite3.Connection, number: int, message: str, now: float) -> list[tuple[int, int]]:
    return connection.execute(
        f"""UPDATE runs INDEXED BY runs_by_state
        SET sequence = sequence + 1, type = {CRASHED}, state = NULL, message = ?, ended = ?,
            worker = NULL, seconds = NULL
        WHERE {GOES_ON} AND id BETWEEN ? AND ?
        RETURNING id, root""",
        (message, now, key_of(number, 0), key_of(number, COUNTER_MASK)),
    ).fetchall()
