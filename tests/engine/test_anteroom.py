"""Stores are asked for many runs at a time, for a bounded number of runs, and hold up neither workers nor outcomes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from penstock import Engine, flow, quote, task, wait
from penstock.cache_policies import INPUTS, NO_CACHE
from penstock.ports import Call, Report
from penstock.results import ResultStore
from penstock.runners import ThreadPoolTaskRunner
from penstock.testing import wait_until
from penstock_results.locks import Claim, SingleFlight

WATCHDOG = 30.0
PLACES = 64


class Batches(ThreadPoolTaskRunner):
    """Threads that calls travel to together, so that somebody can count the trips."""

    batches: ClassVar[bool] = True
    trips: ClassVar[list[int]] = []

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        self.trips.append(len(calls))
        super().submit(calls, report)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with one worker and a store."""
    with Engine(ThreadPoolTaskRunner(max_workers=1), results=tmp_path, grace=2.0) as engine:
        yield engine


@task(cache_policy=INPUTS)
def double(value: int) -> int:
    return 2 * value


@flow
def doubled(count: int) -> list[int]:
    return double.map(range(count)).result()


def test_a_synchronous_flow_looks_for_several_results_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doubled(8) == list(range(0, 16, 2))
    together = threading.Barrier(8)
    find = ResultStore.find

    def find_together(store: ResultStore, where: Any) -> Any:
        together.wait(WATCHDOG)
        return find(store, where)

    monkeypatch.setattr(ResultStore, "find", find_together)
    assert doubled(8) == list(range(0, 16, 2))


def test_a_worker_goes_on_while_its_values_are_being_stored(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8)
    write = ResultStore.write

    def write_together(store: ResultStore, *args: Any, **options: Any) -> Any:
        together.wait(WATCHDOG)
        return write(store, *args, **options)

    monkeypatch.setattr(ResultStore, "write", write_together)
    same = double.with_options(cache_policy=NO_CACHE, persist_result=True)
    assert flow(lambda: same.map(range(8)).result())() == list(range(0, 16, 2))


def test_no_more_large_values_wait_to_be_stored_than_there_are_workers(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, writing, seen = threading.Lock(), [0], list[int]()
    another = threading.Event()
    write = ResultStore.write

    def counting(store: ResultStore, *args: Any, **options: Any) -> Any:
        with guard:
            writing[0] += 1
            seen.append(writing[0])
        if writing[0] > 1:
            another.set()
        another.wait(0.05)  # long enough for another one to come, if it is going to
        with guard:
            writing[0] -= 1
        return write(store, *args, **options)

    monkeypatch.setattr(ResultStore, "write", counting)

    @task(persist_result=True, cache_policy=NO_CACHE)
    def make(number: int) -> bytes:
        return bytes(2_000_000)

    assert flow(lambda: [len(value) for value in make.map(range(6)).result()])() == [2_000_000] * 6
    assert seen == [1] * 6


def test_few_keys_are_claimed_before_their_turn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, claimed, most, wanted = threading.Lock(), [0], [0], threading.Event()
    begin, release = SingleFlight.begin, Claim.release

    def count_one(flight: SingleFlight, key: str) -> Claim | None:
        with guard:
            claimed[0] += 1
            most[0] = max(most[0], claimed[0])
        return begin(flight, key)

    def count_off(claim: Claim) -> None:
        with guard:
            claimed[0] -= 1
        release(claim)

    monkeypatch.setattr(SingleFlight, "begin", count_one)
    monkeypatch.setattr(Claim, "release", count_off)

    @task(cache_policy=INPUTS)
    def slow(value: int) -> int:
        assert wanted.wait(WATCHDOG)
        return value

    @flow
    def main() -> list[int]:
        futures = slow.map(range(3 * PLACES))
        wait_until(lambda: claimed[0] >= PLACES, "the first to have claimed their keys")
        wanted.set()
        return futures.result()

    assert main() == list(range(3 * PLACES))
    executing = 2  # one on the worker, and one at its door
    storing = 33  # on each thread that asks stores, and on the worker
    assert PLACES <= most[0] <= PLACES + executing + storing
    assert claimed == [0]


def test_runs_that_wait_to_look_can_be_cancelled(engine: Engine) -> None:
    entered, wanted, executed = threading.Event(), threading.Event(), list[int]()

    @task(cache_policy=INPUTS)
    def slow(value: int) -> None:
        executed.append(value)
        entered.set()
        assert wanted.wait(WATCHDOG)

    @flow
    def main() -> Any:
        futures = slow.map(range(2 * PLACES))
        assert entered.wait(WATCHDOG)
        futures.cancel()
        wanted.set()
        wait(futures)
        return quote([future.state.name for future in futures])

    names = main()
    assert len(names) == 2 * PLACES
    assert set(names) <= {"Cancelled", "Completed"}
    assert names.count("Cancelled") >= 2 * PLACES - 2
    assert len(executed) <= 2


def test_the_only_worker_may_wait_for_more_runs_than_there_are_places(engine: Engine) -> None:
    @task
    def outer() -> int:
        return sum(double.map(range(2 * PLACES)).result())

    assert flow(lambda: outer.submit().result())() == sum(range(0, 4 * PLACES, 2))


def test_what_is_found_makes_no_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batches, "trips", [])
    with Engine(Batches(max_workers=2), results=tmp_path):
        for _ in range(2):
            assert doubled(3 * PLACES) == list(range(0, 6 * PLACES, 2))
            assert sum(Batches.trips) == 3 * PLACES


def test_batches_of_a_fixed_size_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batches, "trips", [])
    with Engine(Batches(max_workers=2), results=tmp_path):
        assert flow(lambda: double.map(range(100), batch_size=25).result())() == list(range(0, 200, 2))
    assert Batches.trips == [25] * 4


@pytest.mark.parametrize(("size", "crowded"), [(2_000_000, False), (10, True)], ids=["large", "small"])
def test_of_large_values_that_shall_not_stay_in_memory_two_are_loaded_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, size: int, crowded: bool
) -> None:
    guard, loading, third_came = threading.Lock(), [0], threading.Event()
    find = ResultStore.find

    def counting(store: ResultStore, where: Any) -> Any:
        with guard:
            loading[0] += 1
            if loading[0] == 3:
                third_came.set()
        third_came.wait(0.1)  # long enough for others to come, if they are going to
        try:
            return find(store, where)
        finally:
            with guard:
                loading[0] -= 1

    @task(cache_policy=INPUTS, cache_result_in_memory=False)
    def make(number: int) -> bytes:
        return bytes(size)

    @flow
    def run() -> list[str]:
        futures = make.map(range(20))
        futures.wait()
        return [future.state.name for future in futures]

    assert run() == ["Completed"] * 20
    monkeypatch.setattr(ResultStore, "find", counting)
    assert run() == ["Cached"] * 20
    assert third_came.is_set() == crowded


def test_who_waits_for_another_that_has_the_key_gives_way_to_others(tmp_path: Path) -> None:
    wanted, executed = threading.Event(), list[int]()

    @task(cache_policy=INPUTS)
    def slow(value: int) -> int:
        executed.append(value)
        assert value or wanted.wait(WATCHDOG)
        return value

    @flow
    def main() -> int:
        futures = slow.map([0] * 2 * PLACES + [1, 2, 3])
        wait_until(lambda: sorted(executed) == [0, 1, 2, 3], "the others to have been executed")
        wanted.set()
        return sum(futures.result())

    with Engine(ThreadPoolTaskRunner(max_workers=2), results=tmp_path):
        assert main() == 6


def test_it_is_too_late_to_cancel_a_run_whose_value_is_being_stored(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, wanted = threading.Event(), threading.Event()
    write = ResultStore.write

    def slowly(store: ResultStore, *args: Any, **options: Any) -> Any:
        writing.set()
        assert wanted.wait(WATCHDOG)
        return write(store, *args, **options)

    @flow
    def main() -> int:
        future = double.submit(2)
        assert writing.wait(WATCHDOG)
        future.cancel()
        wanted.set()
        return future.result()

    with monkeypatch.context() as patch:
        patch.setattr(ResultStore, "write", slowly)
        assert main() == 4
    assert double(2, return_state=True).name == "Cached"
