"""Deleting runs from PostgreSQL in pieces, so that no statement takes long."""

from __future__ import annotations

from uuid import UUID

from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.schema import COMPLETED
from penstock_history.postgresql.tree import find

__all__ = ("compact", "delete_piece")

_RUNS, _LINES = 5_000, 20_000
"""What a piece takes."""

_TABLES = "states", "flows", "results", "requests"
"""What there is about a run, beside its row and its log lines."""
_DELETE_REST = ", ".join(
    f"{table}_gone AS (DELETE FROM penstock.{table} WHERE run IN (SELECT id FROM doomed))" for table in _TABLES
)

_DELETE_LINES = f"""
    WITH doomed AS (SELECT id FROM penstock.logs WHERE root = $1 LIMIT {_LINES}),
    gone AS (DELETE FROM penstock.logs WHERE id IN (SELECT id FROM doomed) RETURNING 1)
    SELECT count(*) FROM gone"""

_DELETE_RUNS = f"""
    WITH doomed AS MATERIALIZED (SELECT id FROM penstock.runs WHERE root = $1 AND (id = root) = $2 LIMIT {_RUNS}),
    {_DELETE_REST},
    gone AS (DELETE FROM penstock.runs WHERE id IN (SELECT id FROM doomed) RETURNING 1)
    SELECT count(*) FROM gone"""


async def delete_piece(connection: Connection, root: UUID) -> int | None:
    """Delete some of what is inside a root run that has ended, and it itself when nothing is left inside.

    Returns:
        How many runs went, or None if there is no such root run.
    """
    found = await find(connection, root)
    if found is None or not found.is_root or found.type < COMPLETED:
        return None
    if await connection.fetchval(_DELETE_LINES, found.key):
        return 0
    inside: int = await connection.fetchval(_DELETE_RUNS, found.key, False)
    return inside or int(await connection.fetchval(_DELETE_RUNS, found.key, True))


async def compact(connection: Connection) -> None:
    """Let what comes use the space of what was deleted, and give back what is free at the ends of the files."""
    await connection.execute("SET statement_timeout = 0")
    for table in ("runs", "logs", *_TABLES):
        await connection.execute(f"VACUUM penstock.{table}")
    await connection.execute("RESET statement_timeout")
