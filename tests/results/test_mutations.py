"""Damaged blobs, by the thousand: every one is refused before anything is decoded."""

from __future__ import annotations

import random
from typing import Any

import fsspec
import numpy as np
import pytest

from penstock.errors import ResultCorrupt, ResultForbidden
from penstock.results import ResultStore
from penstock_results.testing import BackDoor

songs: list[str] = []


class Canary:
    """Sings when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sing, ()


def sing() -> None:
    songs.append("sung")


SETTINGS: list[dict[str, Any]] = [
    {"serializer": "pickle"},
    {"serializer": "pickle", "compression": "zstd"},
    {"serializer": "pickle", "compression": "lz4"},
    {"serializer": "pickle", "signing_key": b"k" * 32},
    {"serializer": "json"},
    {"serializer": "numpy"},
]


def _mutated(blob: bytes, other: bytes, chance: random.Random) -> bytes:
    at, to = sorted((chance.randrange(len(blob)), chance.randrange(len(blob) + 1)))
    match chance.randrange(8):
        case 0 | 1:
            return blob[:at] + bytes([blob[at] ^ 1 << chance.randrange(8)]) + blob[at + 1 :]
        case 2:
            return blob[:at] + chance.randbytes(to - at) + blob[to:]
        case 3:
            return blob[:at]
        case 4:
            return blob[:at] + blob[to:]
        case 5:
            return blob[:at] + blob[at:to] * 2 + blob[to:]
        case 6:
            return blob[:at] + bytes(to - at) + blob[to:]
        case _:
            return blob[:at] + other[at:]


def _value(serializer: str) -> Any:
    if serializer == "pickle":
        return [Canary(), b"ab" * 300, np.arange(50)]
    return {"text": "a" * 500, "bytes": b"xyz" * 99} if serializer == "json" else np.arange(100.0)


def _hunt(settings: dict[str, Any], count: int, seed: int) -> None:
    store = ResultStore("memory://mutations", **settings)
    value = _value(settings["serializer"])
    store.write(value, "k")
    door = BackDoor(store)
    blob = door.read("k")
    store.write(value, "other")
    other = door.read("other")
    store.read("k")
    songs.clear()
    files = fsspec.filesystem("memory")
    chance = random.Random(seed)
    tried = 0
    while tried < count:
        mutated = _mutated(blob, other, chance)
        if mutated == blob:
            continue
        tried += 1
        files.pipe_file("/mutations/k.result", mutated)
        with pytest.raises((ResultCorrupt, ResultForbidden)):
            store.read("k")
    assert songs == []
    door.write("k", blob)
    store.read("k")
    assert (songs == ["sung"]) is (settings["serializer"] == "pickle")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_mutated_blobs_are_refused_before_decoding(settings: dict[str, Any]) -> None:
    _hunt(settings, 50_000 // len(SETTINGS) + 1, seed=1)


@pytest.mark.chaos
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_million_mutated_blobs(settings: dict[str, Any]) -> None:
    _hunt(settings, 1_000_000 // len(SETTINGS) + 1, seed=2)
