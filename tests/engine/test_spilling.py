"""Large values: which stay in memory, and what becomes of the others."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from penstock import Engine, flow, task
from penstock.errors import ConfigurationError
from penstock.keeping import size_of
from penstock.results import ResultReference, ResultStore
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner

MB = 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """Where values are spilled to."""
    return ResultStore(tmp_path / "store")


@task
def make(size: int) -> bytes:
    return bytes(size)


@task
def measure(data: bytes) -> int:
    return len(data)


class TestThreshold:
    @pytest.fixture
    def engine(self, runner: type[SequentialTaskRunner | ThreadPoolTaskRunner], store: ResultStore) -> Iterator[Engine]:
        with Engine(runner, results=store, spill_bytes=MB) as engine:
            yield engine

    def test_a_value_above_it_is_loaded_on_demand(self, engine: Engine, store: ResultStore) -> None:
        future = make.submit(2 * MB)
        future.wait()
        assert isinstance(future.state.data, ResultReference)
        assert len(store.keys()) == 1
        assert future.result() == bytes(2 * MB)

    def test_a_value_below_it_stays(self, engine: Engine, store: ResultStore) -> None:
        future = make.submit(MB // 2)
        assert future.result() is future.result()
        assert store.keys() == []

    def test_it_goes_on_as_an_argument_and_as_a_flows_value(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            large = make.submit(2 * MB)
            return measure.submit(large), large

        size, large = run()
        assert (size, large) == (2 * MB, bytes(2 * MB))

    def test_a_direct_call_hands_its_value_over(self, engine: Engine, store: ResultStore) -> None:
        assert len(make(2 * MB)) == 2 * MB
        assert store.keys() == []


class TestBudget:
    @pytest.fixture
    def engine(self, runner: type[SequentialTaskRunner | ThreadPoolTaskRunner], store: ResultStore) -> Iterator[Engine]:
        with Engine(runner, results=store, memory_budget=3 * MB) as engine:
            yield engine

    def test_what_exceeds_it_is_spilled(self, engine: Engine, store: ResultStore) -> None:
        futures = make.map([MB - 100] * 10)
        assert [len(value) for value in futures.result()] == [MB - 100] * 10
        assert len(store.keys()) == 7
        assert MB < engine.spill.held <= 3 * MB

    def test_dropped_futures_give_it_back(self, engine: Engine, store: ResultStore) -> None:
        for _ in range(10):
            assert len(make.submit(2 * MB).result()) == 2 * MB
            gc.collect()
            assert engine.spill.held == 0
        assert store.keys() == []

    def test_small_values_do_not_count(self, engine: Engine) -> None:
        futures = make.map([1000] * 10)
        futures.result()
        assert engine.spill.held == 0


def test_nothing_is_spilled_unasked(store: ResultStore) -> None:
    with Engine(results=store):
        future = make.submit(5 * MB)
        assert future.result() is future.result()
    assert store.keys() == []


@pytest.mark.parametrize("options", [{"spill_bytes": -1}, {"memory_budget": -1}], ids=str)
def test_negative_limits_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="negative"):
        Engine(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.zeros(1000), 8000),
        (memoryview(bytes(500)), 500),
        (pd.DataFrame({"x": np.zeros(1000)}), 8000 + 132),
        (pd.Series(np.zeros(1000)), 8000),
        (bytes(1000), bytes(1000).__sizeof__()),
        ([np.zeros(1000)] * 100, sys.getsizeof([None] * 100) + 800_000),
        ({"rows": np.zeros(1000)}, sys.getsizeof({"rows": None}) + 8000),
        ([], sys.getsizeof([])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_size_of_a_value(value: Any, expected: int) -> None:
    assert size_of(value) == expected
