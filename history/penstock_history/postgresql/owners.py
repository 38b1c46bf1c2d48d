"""Who is alive, as PostgreSQL knows it.

Each process that records holds an advisory lock in its session, the one with its owner's number. The server gives it
back when the session ends: with the process, however that ends, but also with the network. So there is a lease as well,
on the server's clock, renewed with every group, and a process is dead only if its lock is free *and* its lease is over.
A process that is stopped for an hour keeps its lock; one whose connection was cut has the time of its lease to come
back. While the server itself is down nobody can renew anything, so a lease lasts at least until that long after its
start. Where it can be seen that the process is gone (`places`), nobody waits for the lease.

Being found dead is final: `lost` is set in the transaction that marks the runs, and whatever the process writes later
is refused (`statements`). Whoever buries the dead locks their rows, and whoever looks at the same time skips
them, so that nobody waits.
"""

from __future__ import annotations

from uuid import UUID

from penstock_history.keys import to_uuid
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.places import here, is_gone
from penstock_history.postgresql.schema import APPLICATION, COMPLETED, CRASHED, FIRST_KEY, LAST_KEY
from penstock_history.records import OwnerRecord

__all__ = (
    "ALIVE",
    "RECORDING",
    "bury",
    "claim",
    "end",
    "forget",
    "gone",
    "is_alive",
    "number_of_prefix",
    "register",
    "renew",
)

RECORDING = "ended IS NULL AND lost IS NULL"

_NOW = "extract(epoch FROM now())::double precision"

_HOLDERS = f"""SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {APPLICATION} AND objid = owners.id AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

ALIVE = f"""(
    EXISTS ({_HOLDERS}) OR id <> ALL ($1::integer[])
    AND greatest(renewed, pg_postmaster_start_time()) + make_interval(secs => lease) > now()
)"""
"""Whether an owner is alive; takes the numbers of those that are `gone` if they hold no lock."""


async def register(connection: Connection, owner: OwnerRecord, lease: float) -> int:
    """Write down a process that begins to record, and give its number; the session holds its lock from then on."""
    async with connection.transaction():
        number = await connection.fetchval(
            """INSERT INTO penstock.owners (pid, host, place, started, lease, renewed)
            VALUES ($1, $2, $3, $4, $5, now()) RETURNING id""",
            owner.pid,
            owner.host,
            here(),
            owner.started,
            lease,
        )
        await connection.execute("SELECT pg_advisory_lock($1, $2)", APPLICATION, number)
    return int(number)


async def claim(connection: Connection, owner: int) -> None:
    """Take a process's lock into a new session of it, out of the old one, which may not know yet that it is cut."""
    await connection.execute(
        f"""SELECT pg_terminate_backend(holder.pid) FROM penstock.owners, LATERAL ({_HOLDERS}) AS holder
        WHERE owners.id = $1 AND holder.pid <> pg_backend_pid()""",
        owner,
    )
    await connection.execute("SELECT pg_advisory_lock($1, $2)", APPLICATION, owner)


async def renew(connection: Connection, owner: int) -> bool:
    """Renew a process's lease; False if it is down as dead."""
    statement = f"UPDATE penstock.owners SET renewed = now() WHERE id = $1 AND {RECORDING} RETURNING true"
    return bool(await connection.fetchval(statement, owner))


async def number_of_prefix(connection: Connection, owner: int, prefix: bytes) -> int:
    """The number that a process has for a prefix; it gets one if it has none."""
    await connection.execute(
        "INSERT INTO penstock.prefixes (owner, prefix) VALUES ($1, $2) ON CONFLICT (owner, prefix) DO NOTHING",
        owner,
        prefix,
    )
    number = await connection.fetchval(
        "SELECT number FROM penstock.prefixes WHERE owner = $1 AND prefix = $2", owner, prefix
    )
    return int(number)


async def gone(connection: Connection) -> list[int]:
    """The owners that were processes of this machine and are no more."""
    rows = await connection.fetch(f"SELECT id, pid FROM penstock.owners WHERE place = $1 AND {RECORDING}", here())
    return [owner for owner, pid in rows if is_gone(pid)]


async def is_alive(connection: Connection, owner: int) -> bool:
    """Whether a process still runs and records."""
    statement = f"SELECT {ALIVE} FROM penstock.owners WHERE id = $2 AND {RECORDING}"
    return bool(await connection.fetchval(statement, await gone(connection), owner))


async def bury(connection: Connection) -> list[UUID]:
    """Mark what dead processes left unfinished as CRASHED, and give the root runs among it."""
    roots = list[UUID]()
    async with connection.transaction():
        dead = await connection.fetch(
            f"""SELECT id, pid, host FROM penstock.owners WHERE {RECORDING} AND NOT {ALIVE}
            FOR UPDATE SKIP LOCKED""",
            await gone(connection),
        )
        for owner, pid, host in dead:
            await connection.execute(f"UPDATE penstock.owners SET lost = {_NOW} WHERE id = $1", owner)
            message = f"owner_lost: process {pid} on {host} ended, or was killed, before the run did."
            crashed = await connection.fetch(
                f"""UPDATE penstock.runs
                SET sequence = sequence + 1, type = {CRASHED}, state = NULL, message = $2, ended = {_NOW},
                    worker = NULL, seconds = NULL
                FROM penstock.prefixes
                WHERE owner = $1 AND runs.id BETWEEN {FIRST_KEY} AND {LAST_KEY} AND type < {COMPLETED}
                RETURNING prefix, runs.id, root""",
                owner,
                message,
            )
            roots += (to_uuid(prefix, key) for prefix, key, root in crashed if key == root)
    return roots


async def end(connection: Connection, owner: int, now: float) -> None:
    """Write down that a process records no more; what it left unfinished is for `bury`, and at once."""
    await connection.execute(
        f"""UPDATE penstock.owners SET lease = 0, ended = CASE WHEN NOT EXISTS (
            SELECT FROM penstock.prefixes JOIN penstock.runs ON runs.id BETWEEN {FIRST_KEY} AND {LAST_KEY}
            WHERE owner = owners.id AND type < {COMPLETED}
        ) THEN $2::double precision END WHERE id = $1 AND lost IS NULL""",
        owner,
        now,
    )
    await forget(connection, owner)


async def forget(connection: Connection, owner: int | None = None) -> None:
    """Delete what is known of processes that record no more and have no runs left.

    Args:
        connection: The connection.
        owner: Only this process; None for all.
    """
    gone = f"SELECT id FROM penstock.owners WHERE NOT ({RECORDING}) AND id = coalesce($1, id)"
    await connection.execute(
        f"""DELETE FROM penstock.prefixes WHERE owner IN ({gone})
        AND NOT EXISTS (SELECT FROM penstock.runs WHERE id BETWEEN {FIRST_KEY} AND {LAST_KEY})""",
        owner,
    )
    await connection.execute(
        f"""DELETE FROM penstock.owners WHERE id IN ({gone})
        AND NOT EXISTS (SELECT FROM penstock.prefixes WHERE owner = owners.id)""",
        owner,
    )
