"""Values and functions whose keys several processes compute; run as a program it prints them."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import pathlib
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import pydantic

from penstock_results.keys import code_identity, hash_value

LIMIT = 10
NAMES = {"delta", "alpha", "charlie", "bravo"}
HANDLERS: dict[str, Any] = {}


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str] = dataclasses.field(default_factory=set)
    inner: Any = None


class Model(pydantic.BaseModel):
    name: str
    members: frozenset[str] = frozenset()


class Worker:
    def __init__(self, base: int) -> None:
        self.base = base

    def run(self, value: int) -> int:
        return value + self.base + LIMIT


class Frozen(dict[str, int]):
    pass


def helper(value: int) -> int:
    return value + LIMIT if value else ping(value)


def ping(value: int) -> int:
    return pong(value) if NAMES else helper(value)


def pong(value: int) -> int:
    return HANDLERS["ping"](value - 1) if value else 0


HANDLERS |= {"ping": ping, "pong": pong}


def closure(factor: Any) -> Any:
    def scaled(value: int, *, shift: int = 3) -> int:
        return sum(helper(item) * factor for item in range(value)) + shift

    return scaled


def values() -> dict[str, Any]:
    return {
        "none": None,
        "text": "grüße \ud800",
        "set": set(NAMES),
        "frozenset in dict": {"k": frozenset(NAMES), "j": 1},
        "mixed keys": {1: "a", "1": "b", (1, 2): {None: 1.5}},
        "counter": Counter("abracadabra"),
        "ordered": OrderedDict(b=1, a=2),
        "default": defaultdict(list, {"x": [1]}),
        "deque": deque([1, 2], maxlen=3),
        "frozen": Frozen(a=1, b=2),
        "pair": Pair(1, [2]),
        "colour": Colour.RED,
        "mode": Mode.READ | Mode.WRITE,
        "point": Point(1, set(NAMES), Point(2)),
        "model": Model(name="m", members=frozenset(NAMES)),
        "path": pathlib.PurePosixPath("/a/b"),
        "when": datetime.datetime(2024, 1, 2, 3, 4, 5, 6, datetime.UTC),
        "span": datetime.timedelta(days=1, microseconds=5),
        "decimal": decimal.Decimal("1.10"),
        "uuid": uuid.UUID(int=5),
        "function": helper,
        "partial": functools.partial(helper, value=1),
        "functions": {helper, ping, pong},
        "class": Worker,
        "model class": Model,
        "builtin": len,
    }


def arrays() -> dict[str, Any]:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame(
        {
            "int": [1, 2, 3],
            "text": ["a", "b", None],
            "when": pd.date_range("2024", periods=3, tz="UTC"),
            "kind": pd.Categorical(["x", "y", "x"]),
            "maybe": pd.array([1, None, 3], dtype="Int64"),
            "object": pd.Series(["p", 1, None], dtype=object),
        }
    )
    table = pa.table({"a": [1, 2, None], "b": ["x", None, "z"], "c": [[1], [], None]})
    return {
        "array": np.arange(12.0).reshape(3, 4),
        "strings": np.array(["a", "bc"], dtype=object),
        "record": np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
        "scalar": np.float32(1.5),
        "frame": frame,
        "series": frame["text"],
        "index": frame.set_index(["int", "text"]).index,
        "table": table,
        "batch": table.to_batches()[0],
    }


def functions() -> dict[str, Any]:
    return {
        "recursive": ping,
        "closure": closure(3),
        "closure over a set": closure(frozenset(NAMES)),
        "lambda": lambda value: helper(value) + len(NAMES),
        "method": Worker.run,
    }


if __name__ == "__main__":
    # With the argument "arrays" those too, whose libraries take a second to import.
    everything = values() | (arrays() if sys.argv[1:] == ["arrays"] else {})
    codes = {f"code: {name}": code_identity(function) for name, function in functions().items()}
    print(json.dumps({name: hash_value(value) for name, value in everything.items()} | codes))
