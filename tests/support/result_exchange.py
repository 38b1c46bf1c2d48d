"""Writes or reads a fixed set of results; run by several Python versions on one store."""

from __future__ import annotations

import datetime
import decimal
import sys
from typing import Any

from penstock.results import ResultStore

__all__ = ("read", "values", "write")


def values() -> dict[str, tuple[Any, str]]:
    """Return key -> (value, serializer)."""
    numbers = {"json": 1, "pickle": (1, 2)}
    plain: Any = {"list": [1, 2.5, None, "text \u00e9"], "deep": {"a": {"b": [True]}}}
    typed: Any = (
        decimal.Decimal("1.5"),
        {1, 2},
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        b"x" * 99,
    )
    found = {f"number/{name}": (value, name) for name, value in numbers.items()}
    for name in ("json", "pickle"):
        found |= {
            f"plain/{name}": (plain, name),
            f"typed/{name}": (typed, name),
            f"large/{name}": (b"ab" * 10**6, name),
        }
    return found


def write(url: str, version: str) -> None:
    store = ResultStore(url, signing_key=b"k" * 32)
    for key, (value, serializer) in values().items():
        store.write(value, f"{version}/{key}", serializer=serializer)


def read(url: str, version: str) -> int:
    store = ResultStore(url, signing_key=b"k" * 32)
    for key, (value, _) in values().items():
        again = store.read(f"{version}/{key}")
        assert again == value, key
        assert type(again) is type(value), key
    return len(values())


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
