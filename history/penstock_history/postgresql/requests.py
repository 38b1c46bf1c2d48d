"""What other processes want of runs, in PostgreSQL: rows that the runs' owner takes."""

from __future__ import annotations

import time  # noqa: TID251 (when it was asked for)
from uuid import UUID

from penstock_history.keys import COUNTER_BITS, to_uuid
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.schema import COMPLETED
from penstock_history.postgresql.tree import find

__all__ = ("put", "take")


async def put(connection: Connection, run_id: UUID) -> bool:
    """Ask for a run to be cancelled; False if there is no such run, or it has ended."""
    found = await find(connection, run_id)
    if found is None or found.type >= COMPLETED:
        return False
    await connection.execute(
        """INSERT INTO penstock.requests (run, owner, time)
        SELECT $1, owner, $2 FROM penstock.prefixes WHERE number = $3
        ON CONFLICT (run) DO UPDATE SET time = excluded.time""",
        found.key,
        time.time(),
        found.key >> COUNTER_BITS,
    )
    return True


async def take(connection: Connection, owner: int) -> list[UUID]:
    """Give the runs of a process that others want cancelled, and forget that they do."""
    rows = await connection.fetch(
        f"""DELETE FROM penstock.requests USING penstock.prefixes
        WHERE requests.owner = $1 AND number = run >> {COUNTER_BITS} RETURNING prefix, run""",
        owner,
    )
    return [to_uuid(prefix, key) for prefix, key in rows]
