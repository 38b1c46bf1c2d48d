"""Finding a run by its id in PostgreSQL, and the runs inside it."""

from __future__ import annotations

from uuid import UUID

from penstock_history.keys import COUNTER_MASK, Found, prefix_of
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.schema import FIRST_KEY

__all__ = ("INSIDE", "find")

INSIDE = """(
    WITH RECURSIVE inside AS (
        SELECT id FROM penstock.runs WHERE root = {root} AND parent = {run}
        UNION ALL
        SELECT runs.id FROM penstock.runs JOIN inside ON runs.parent = inside.id WHERE root = {root}
    ) SELECT id FROM inside
)"""
"""The keys of all runs inside one, however deep; it takes the keys of the run and of the outermost run around it."""


async def find(connection: Connection, run_id: UUID) -> Found | None:
    """Find a run, under whichever number the process that recorded it has for its prefix."""
    row = await connection.fetchrow(
        f"""SELECT id, root, type FROM penstock.prefixes
        JOIN penstock.runs ON id = {FIRST_KEY} + $2::bigint
        WHERE prefix = $1""",
        prefix_of(run_id.int),
        run_id.int & COUNTER_MASK,
    )
    return None if row is None else Found(*row)
