"""What people mean who type a part of a run's id, or its name, as PostgreSQL finds it."""

from __future__ import annotations

from penstock_history.id_parts import AT_MOST, beginning_of_id, end_of_id
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.schema import FIRST_KEY

__all__ = ("keys_that_fit",)

_BEGINNING = f"""
    SELECT runs.id FROM penstock.prefixes JOIN penstock.runs
    ON runs.id BETWEEN {FIRST_KEY} + $2::bigint AND {FIRST_KEY} + $3::bigint
    WHERE encode(prefix, 'hex') LIKE $1 || '%' ORDER BY runs.id DESC LIMIT {AT_MOST}"""

_END = f"""
    SELECT runs.id FROM penstock.prefixes JOIN penstock.runs ON runs.id = {FIRST_KEY} + $2::bigint
    WHERE encode(prefix, 'hex') LIKE '%' || $1 ORDER BY runs.id DESC LIMIT {AT_MOST}"""

_SHORT_END = f"SELECT id FROM penstock.runs WHERE id & $1::bigint = $2::bigint ORDER BY id DESC LIMIT {AT_MOST}"

_NAMED = f"SELECT id FROM penstock.runs WHERE name = $1 ORDER BY id DESC LIMIT {AT_MOST}"


async def keys_that_fit(connection: Connection, text: str) -> list[int]:
    """The keys of runs that a text may mean: an id, the beginning or end of one, or a name; a hundred at most."""
    rows = await connection.fetch(_NAMED, text)
    if beginning := beginning_of_id(text):
        rows += await connection.fetch(_BEGINNING, *beginning)
    if end := end_of_id(text):
        if end.has_whole_counter:
            rows += await connection.fetch(_END, end.prefix, end.counter)
        else:
            rows += await connection.fetch(_SHORT_END, end.mask, end.counter)
    return sorted({row["id"] for row in rows}, reverse=True)[:AT_MOST]
