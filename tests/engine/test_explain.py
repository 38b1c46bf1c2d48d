"""What `explain_cache` tells of hits, of misses, and of calls that have no key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock import Engine, explain_cache, flow, task
from penstock.cache_policies import DEFAULT, INPUTS, NO_CACHE, TASK_SOURCE
from penstock.errors import InvalidCall
from penstock.results import ResultStore
from penstock.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """The store's time."""
    return VirtualClock()


@pytest.fixture
def store(tmp_path: Path, clock: VirtualClock) -> ResultStore:
    """Where the engine keeps results."""
    return ResultStore(tmp_path / "store", clock=clock)


@pytest.fixture(autouse=True)
def engine(store: ResultStore) -> Iterator[Engine]:
    """An engine with that store."""
    with Engine(results=store, grace=2.0) as engine:
        yield engine


def make_work(**options: Any) -> Any:
    @task(**options)
    def work(x: int, client: object = None) -> list[int]:
        return [x]

    return work


def test_of_a_hit() -> None:
    work = make_work(cache_policy=INPUTS + TASK_SOURCE)
    work(1)
    told = explain_cache(work, 1)
    assert told.hit
    assert set(told.components) == {"task", "inputs.x", "inputs.client", "code"}
    assert (told.compared_with, told.changed) == (None, ())


def test_of_a_miss_names_what_changed(clock: VirtualClock) -> None:
    work = make_work(cache_policy=INPUTS + TASK_SOURCE)
    work(1)
    clock.advance(1)
    work(2)
    told = explain_cache(work, 3)
    assert not told.hit
    assert told.changed == ("inputs.x",)
    assert told.compared_with == explain_cache(work, 2).key
    make_work(cache_policy=INPUTS, name="stranger")(3)
    assert explain_cache(work, 3) == told


def test_of_the_first_call() -> None:
    told = explain_cache(make_work(cache_policy=INPUTS), 1)
    assert (told.hit, told.compared_with, told.changed) == (False, None, ())
    assert told.key is not None


def test_of_an_expired_entry(clock: VirtualClock) -> None:
    work = make_work(cache_policy=INPUTS, cache_expiration=timedelta(minutes=1))
    work(1)
    clock.advance(61)
    told = explain_cache(work, 1)
    assert not told.hit
    assert "expired" in told.reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "stores no results"),
        ({"cache_policy": DEFAULT}, "no key"),
        ({"persist_result": True, "cache_policy": NO_CACHE}, "no key"),
        ({"cache_key_fn": lambda context, arguments: None}, "no key"),
    ],
)
def test_of_what_is_never_cached(options: dict[str, Any], reason: str) -> None:
    told = explain_cache(make_work(**options), 1)
    assert (told.hit, told.key) == (False, None)
    assert reason in told.reason


def test_of_an_unhashable_argument_names_it() -> None:
    told = explain_cache(make_work(cache_policy=INPUTS), 1, threading.Lock())
    assert "argument client" in told.reason


def test_inside_a_flow_is_that_of_a_call_there() -> None:
    work = make_work(persist_result=True)

    @flow
    def run() -> tuple[bool, tuple[str, ...]]:
        before = explain_cache(work, 1)
        work(1)
        assert explain_cache(work, 1).hit
        return before.hit, before.changed

    assert run() == (False, ())
    assert run() == (False, ("flow_run",))


def test_needs_values() -> None:
    work = make_work(cache_policy=INPUTS)

    @flow
    def run() -> None:
        explain_cache(work, work.submit(1))

    with pytest.raises(InvalidCall, match="futures"):
        run()
