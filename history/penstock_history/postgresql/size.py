"""How large a history in PostgreSQL is, and which root runs it should part with."""

from __future__ import annotations

from typing import Any

from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.owners import ALIVE, RECORDING, gone
from penstock_history.postgresql.schema import COMPLETED, VERSION

__all__ = ("expired_roots", "facts", "no_facts")

_INDEXES = {"runs": 3, "states": 1, "flows": 2, "results": 1, "logs": 2}
"""The tables that grow, and in how many indexes each of their rows is."""

_ROW, _ENTRY, _SAMPLE = 28, 20, 1_000
"""Bytes that a row takes beside its values, and in an index; rows that are measured to know the size of all."""

_USED = " + ".join(
    f"""(SELECT count(*) FROM penstock.{table}) * (
        SELECT coalesce(avg(pg_column_size(sample)), 0) + {_ROW + _ENTRY * indexes}
        FROM (SELECT * FROM penstock.{table} LIMIT {_SAMPLE}) AS sample
    )"""
    for table, indexes in _INDEXES.items()
)
"""Bytes that the rows take. The files do not tell: they keep the space of what was deleted, for what comes."""

_EXPIRED = f"""
    WITH sizes AS (SELECT root, count(*) AS runs FROM penstock.runs GROUP BY root),
    roots AS (
        SELECT id, created, ended, count(*) OVER () - row_number() OVER oldest_first AS younger,
            sum(runs) OVER oldest_first - runs AS runs_before
        FROM penstock.runs JOIN sizes ON sizes.root = id WHERE parent IS NULL AND type >= {COMPLETED}
        WINDOW oldest_first AS (ORDER BY created, id)
    ),
    size AS (SELECT {_USED} AS used, (SELECT count(*) FROM penstock.runs) AS runs)
    SELECT id FROM roots, size
    WHERE ended < extract(epoch FROM now()) - $1::double precision
    OR younger >= $2::bigint
    OR runs_before < (used - $3::bigint) / used * size.runs
    ORDER BY created, id"""

_COUNTED = "bytes", "bytes_used", "flow_runs", "task_runs", "processes"
_FACTS = f"""
    SELECT 'PostgreSQL ' || current_setting('server_version'),
    (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
        WHERE relnamespace = 'penstock'::regnamespace AND relkind = 'r'),
    {_USED},
    (SELECT count(*) FROM penstock.runs WHERE kind = 0),
    (SELECT count(*) FROM penstock.runs WHERE kind = 1),
    (SELECT count(*) FROM penstock.owners WHERE {RECORDING} AND {ALIVE})"""


async def expired_roots(connection: Connection, age: float | None, count: int | None, size: int | None) -> list[int]:
    """The keys of the root runs that are too old, too many or too much, oldest first; see `Reader.expired`."""
    return [row["id"] for row in await connection.fetch(_EXPIRED, age, count, size)]


async def facts(connection: Connection, url: str) -> dict[str, Any]:
    """What there is to say about the history; see `Reader.facts`."""
    database, *numbers = await connection.fetchrow(_FACTS, await gone(connection))
    return {"database": database, "schema": VERSION, "url": url, **dict(zip(_COUNTED, map(int, numbers), strict=True))}


def no_facts(url: str) -> dict[str, Any]:
    """The same where there is no history yet."""
    return {"database": "PostgreSQL", "schema": 0, "url": url, **dict.fromkeys(_COUNTED, 0)}
