"""Which values JSON keeps exactly, and which of them are small enough for it to be the default."""

from __future__ import annotations

import math
from typing import Any

__all__ = ("PLAIN", "fits", "plain")

PLAIN = frozenset({type(None), bool, int, float, str})
_LARGEST = 2**63
# Up to here JSON costs a few microseconds more than pickle: benchmarks/results.py, table "small".
_ITEMS = 250
_TEXT = 16 << 10
_DEPTH = 20


def plain(value: Any) -> bool:
    """Whether a scalar comes back from JSON as it was: exact type, finite, 64 bits, no lone surrogates."""
    kind = type(value)
    if kind is int:
        return bool(-_LARGEST <= value < _LARGEST)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return bool(value.isascii()) or _encodes(value)
    return kind in PLAIN


def fits(value: Any) -> bool:
    """Whether JSON keeps a value exactly and it is small."""
    budget = _ITEMS
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        budget -= 1
        if budget < 0 or depth > _DEPTH:
            return False
        if type(item) is dict:
            if len(item) > budget or "$type" in item or not all(type(key) is str and plain(key) for key in item):
                return False
            pending.extend((inner, depth + 1) for inner in item.values())
        elif type(item) is list:
            if len(item) > budget:
                return False
            pending.extend((inner, depth + 1) for inner in item)
        elif not plain(item) or (type(item) is str and len(item) > _TEXT):
            return False
    return True


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
