"""What people mean who type a part of a run's id, or its name, as PostgreSQL finds it."""

from __future__ import annotations

from penstock_history.keys import COUNTER_BITS
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.schema import FIRST_KEY

__all__ = ("keys_that_fit",)

_AT_MOST = 100
_SHORTEST = 4
"""Digits that are taken for a part of an id; fewer would fit too many."""
_ID, _COUNTER = 32, COUNTER_BITS // 4
"""Hexadecimal digits of an id, and of the part that is in a key."""

_BEGINNING = f"""
    SELECT runs.id FROM penstock.prefixes JOIN penstock.runs
    ON runs.id BETWEEN {FIRST_KEY} + $2::bigint AND {FIRST_KEY} + $3::bigint
    WHERE encode(prefix, 'hex') LIKE $1 || '%' ORDER BY runs.id DESC LIMIT {_AT_MOST}"""

_END = f"""
    SELECT runs.id FROM penstock.prefixes JOIN penstock.runs ON runs.id = {FIRST_KEY} + $2::bigint
    WHERE encode(prefix, 'hex') LIKE '%' || $1 ORDER BY runs.id DESC LIMIT {_AT_MOST}"""

_SHORT_END = f"SELECT id FROM penstock.runs WHERE id & $1::bigint = $2::bigint ORDER BY id DESC LIMIT {_AT_MOST}"

_NAMED = f"SELECT id FROM penstock.runs WHERE name = $1 ORDER BY id DESC LIMIT {_AT_MOST}"


async def keys_that_fit(connection: Connection, text: str) -> list[int]:
    """The keys of runs that a text may mean: an id, the beginning or end of one, or a name; a hundred at most."""
    rows = await connection.fetch(_NAMED, text)
    digits = text.strip().lower().replace("-", "")
    if _SHORTEST <= len(digits) <= _ID and not set(digits) - set("0123456789abcdef"):
        prefix, counter = digits[: _ID - _COUNTER], digits[_ID - _COUNTER :]
        first, last = (int(counter.ljust(_COUNTER, filler), 16) for filler in "0f")
        rows += await connection.fetch(_BEGINNING, prefix, first, last)
        prefix, counter = digits[:-_COUNTER], digits[-_COUNTER:]
        if len(counter) == _COUNTER:
            rows += await connection.fetch(_END, prefix, int(counter, 16))
        else:
            rows += await connection.fetch(_SHORT_END, 16 ** len(counter) - 1, int(counter, 16))
    return sorted({row["id"] for row in rows}, reverse=True)[:_AT_MOST]
