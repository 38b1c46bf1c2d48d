"""A place that fails, tears, delays and dies: what was reported as written is there, whole, and nothing else is."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.errors import ResultCorrupt, ResultError, ResultMissing
from penstock.results import ResultReference, ResultStore
from penstock_results.faults import FaultyStore, Killed, Saboteur

FAULTS = ("fail_before", "fail_after", "tear", "kill", "delay")
SCHEDULES = 500


def _plan(chance: random.Random, rate: float) -> Iterator[str | None]:
    while True:
        yield chance.choice(FAULTS) if chance.random() < rate else None


def _value(chance: random.Random, number: int) -> object:
    size = chance.choice((1, 100, 70_000, 300_000))
    return [number, bytes([number % 256]) * size, "text" * (size % 1000)]


@pytest.mark.parametrize("block", range(5))
@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_no_completed_run_without_its_result(scheme: str, block: int, tmp_path: Path) -> None:
    """Run a toy engine: a run is COMPLETED when `write` has returned; then nothing may be wrong with its result."""
    for schedule in range(block, SCHEDULES, 5):
        chance = random.Random(schedule)
        url = f"{scheme}://{tmp_path}/{schedule}"
        saboteur = Saboteur(_plan(chance, chance.choice((0.05, 0.2, 0.5))), lambda: time.sleep(0.0002))
        faulty, sound = FaultyStore(url, saboteur), ResultStore(url)
        completed: dict[str, tuple[ResultReference, object]] = {}
        tried: dict[str, list[object]] = {}
        for number in range(6):
            key = f"run/{chance.randrange(3)}"
            value = _value(chance, number)
            tried.setdefault(key, []).append(value)
            try:
                reference = faulty.write(value, key)
            except (ResultError, Killed):
                completed.pop(key, None)  # the old value or the new one
            else:
                completed[key] = (reference, value)
            saboteur.dead = False
            _read_under_sabotage(faulty, key, tried)
        for reference, value in completed.values():
            assert ResultStore(url).read(reference) == value
        for key in sound.keys():  # noqa: SIM118 (a store is no dictionary)
            assert sound.read(key) in tried[key]
        sound.gc(orphan_age=timedelta(seconds=-60))
        assert sound.gc(orphan_age=timedelta(seconds=-60), dry_run=True).orphans == ()


def _read_under_sabotage(store: FaultyStore, key: str, tried: dict[str, list[object]]) -> None:
    """A bad read is an error, never another value."""
    try:
        assert store.read(key) in tried[key]
    except (ResultMissing, ResultCorrupt, ResultError):
        return
