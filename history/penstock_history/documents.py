"""Rows on their way to a database: one JSON document for each list."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from penstock_history.records import Row

__all__ = ("document", "sayable")


def document(rows: Sequence[Row] | Sequence[str]) -> str:
    """Rows as the text of a JSON document; what UTF-8 cannot say becomes a question mark."""
    try:
        return orjson.dumps(rows).decode()
    except TypeError:  # a lone surrogate, as in the name of a file that is no text
        return orjson.dumps([sayable(row) for row in rows]).decode()


def sayable(value: object) -> object:
    """A value whose texts are such that UTF-8 can say them."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list | tuple):
        return [sayable(item) for item in value]
    return value
