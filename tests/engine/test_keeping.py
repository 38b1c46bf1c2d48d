"""Results that are stored and found again: caching, persistence and single flight, through flows and tasks."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from recording import Tally
from worlds import World

from penstock import Engine, State, flow, quote, runtime, task, wait_async
from penstock.cache_policies import DEFAULT, FLOW_PARAMETERS, INPUTS, NO_CACHE, RUN_ID, TASK_SOURCE, CachePolicy
from penstock.errors import (
    ConfigurationError,
    DeadlockError,
    ResultError,
    SerializationError,
    UnhashableInput,
)
from penstock.results import ResultStore
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock.tasks import task_input_hash
from penstock.testing import VirtualClock, wait_until
from penstock.wiring import single_flight
from penstock_results import keys, locks
from penstock_results.faults import FaultyStore, Killed, Saboteur
from penstock_results.owners import Owner, Record
from penstock_results.references import ResultReference


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """Where the engine keeps results; its time is moved by hand."""
    return ResultStore(tmp_path / "store", clock=VirtualClock())


@pytest.fixture
def engine(runner: type[SequentialTaskRunner | ThreadPoolTaskRunner], store: ResultStore) -> Iterator[Engine]:
    """An engine with that store."""
    with Engine(runner, results=store, grace=2.0) as engine:
        yield engine


@pytest.fixture
def plain(store: ResultStore) -> Iterator[Engine]:
    """An engine with that store and the default runner, for what does not depend on the runner."""
    with Engine(results=store, grace=2.0) as engine:
        yield engine


@pytest.fixture
def tally() -> Tally:
    """How often bodies were entered."""
    return Tally()


def counted(tally: Tally, **options: Any) -> Any:
    """A task that counts its calls and gives a new object for each."""

    @task(**options)
    def work(x: int, client: object = None) -> list[int]:
        tally.add("work")
        return [x]

    return work


class TestCaching:
    def test_the_second_call_is_instant(self, world: World, engine: Engine, tally: Tally) -> None:
        work = counted(tally, cache_policy=INPUTS)

        async def body() -> Any:
            futures = []
            for x in (1, 1, 2):
                futures.append(work.submit(x))
                await world.get(futures[-1])
            return quote([future.state for future in futures])

        states = world.run(flow(world.function(body)))
        assert [state.name for state in states] == ["Completed", "Cached", "Completed"]
        assert [state.result() for state in states] == [[1], [1], [2]]
        assert tally.counts["work"] == 2

    def test_an_async_task(self, plain: Engine, tally: Tally) -> None:
        @task(cache_policy=INPUTS)
        async def work(x: int) -> int:
            tally.add("work")
            return x

        @flow
        async def run() -> list[int]:
            return [await work(1), await work(1), await work.submit(1)]

        assert asyncio.run(run()) == [1, 1, 1]  # type: ignore[arg-type]
        assert tally.counts["work"] == 1

    def test_a_cached_value_is_the_callers_own(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, cache_policy=INPUTS)
        work(1).append("changed")
        work(1).append("changed")
        assert work(1) == [1]

    def test_an_entry_expires(self, engine: Engine, store: ResultStore, tally: Tally) -> None:
        work = counted(tally, cache_policy=INPUTS, cache_expiration=timedelta(minutes=10))
        assert isinstance(store.clock, VirtualClock)
        work(1)
        store.clock.advance(599)
        work(1)
        assert tally.counts["work"] == 1
        store.clock.advance(2)
        work(1)
        assert tally.counts["work"] == 2

    def test_refreshing_makes_it_anew_and_stores_it(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, cache_policy=INPUTS)
        fresh = work.with_options(refresh_cache=True)
        for one in (work, fresh, fresh, work):
            one(1)
        assert tally.counts["work"] == 3

    def test_refreshing_everything(self, plain: Engine, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PENSTOCK_REFRESH_CACHE", "1")
        work = counted(tally, cache_policy=INPUTS)
        work(1), work(1)
        assert tally.counts["work"] == 2

    def test_caching_can_be_switched_off(self, plain: Engine, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
        work = counted(tally, cache_policy=INPUTS)
        monkeypatch.setenv("PENSTOCK_DISABLE_CACHING", "1")
        work(1), work(1)
        assert tally.counts["work"] == 2

    def test_a_key_function(self, engine: Engine, tally: Tally) -> None:
        def by_parity(context: Any, arguments: dict[str, Any]) -> str | None:
            return None if arguments["x"] < 0 else f"parity-{arguments['x'] % 2}"

        work = counted(tally, cache_key_fn=by_parity)
        assert [work(x) for x in (1, 3, 2, 4)] == [[1], [1], [2], [2]]
        work(-1), work(-1)
        assert tally.counts["work"] == 4

    def test_a_key_function_sees_the_flow_around_the_call(self, engine: Engine, tally: Tally) -> None:
        seen = list[str | None]()

        def key(context: Any, arguments: dict[str, Any]) -> None:
            seen.append(runtime.flow_run.name)

        work = counted(tally, cache_key_fn=key)

        @flow(flow_run_name="around")
        def main() -> None:
            work(1), work.submit(1).wait(), work.map([1]).wait()

        @flow(flow_run_name="around")
        async def main_on_loop() -> None:
            work(1), await work.submit(1), await work.map([1])

        main()
        asyncio.run(main_on_loop())
        assert seen == ["around"] * 6

    def test_a_key_is_computed_once_for_each_call(
        self, engine: Engine, tally: Tally, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def key(context: Any, arguments: dict[str, Any]) -> str:
            tally.add("cache_key_fn")
            return "a-key"

        hash_value = keys.hash_value

        def counting(value: Any, name: str) -> str:
            tally.add(name)
            return hash_value(value, name=name)

        monkeypatch.setattr(keys, "hash_value", counting)
        for work in (counted(tally, cache_key_fn=key), counted(tally, cache_policy=INPUTS)):
            work(1), work(1)
        assert tally.counts["cache_key_fn"] == 2
        assert tally.counts["argument x"] == tally.counts["argument client"] == 2

    def test_the_hash_of_the_inputs(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, cache_key_fn=task_input_hash)
        assert [work(x) for x in (1, 1, 2)] == [[1], [1], [2]]
        assert tally.counts["work"] == 2

    def test_a_key_function_that_fails_is_told_and_nothing_cached(
        self, plain: Engine, tally: Tally, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(context: Any, arguments: dict[str, Any]) -> str:
            raise LookupError("no key")

        work = counted(tally, cache_key_fn=broken)
        work(1), work(1)
        assert tally.counts["work"] == 2
        assert [record for record in caplog.records if "LookupError('no key')" in record.getMessage()]

    @pytest.mark.parametrize(
        ("policy", "calls"),
        [
            (INPUTS - "client", 2),
            (INPUTS + TASK_SOURCE - "client", 2),
            (TASK_SOURCE, 1),
            (INPUTS - "x" - "client", 1),
            (NO_CACHE, 4),
            (NO_CACHE + TASK_SOURCE, 1),
            (RUN_ID, 1),
            (FLOW_PARAMETERS, 1),
            (DEFAULT - "client", 2),
        ],
        ids=str,
    )
    def test_policies_add_up(self, plain: Engine, tally: Tally, policy: CachePolicy, calls: int) -> None:
        work = counted(tally, cache_policy=policy)

        @flow
        def run() -> None:
            for x in (1, 1, 2, 2):
                work(x, object())

        run()
        assert tally.counts["work"] == calls

    def test_without_a_flow_the_default_has_no_key(self, plain: Engine, tally: Tally) -> None:
        work = counted(tally, cache_policy=DEFAULT)
        work(1), work(1)
        assert tally.counts["work"] == 2

    def test_nothing_is_stored_unasked(self, plain: Engine, store: ResultStore, tally: Tally) -> None:
        counted(tally)(1)
        assert store.keys() == []

    def test_arguments_of_futures_count_as_their_values(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, cache_policy=INPUTS)

        @task
        def make() -> int:
            return 1

        @flow
        def run() -> list[list[int]]:
            return [work.submit(make.submit()).result(), work(1)]

        assert run() == [[1], [1]]
        assert tally.counts["work"] == 1


class TestUnhashable:
    def test_is_warned_of_once_and_not_cached(
        self, plain: Engine, tally: Tally, caplog: pytest.LogCaptureFixture
    ) -> None:
        work = counted(tally, cache_policy=INPUTS, name="hot")
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                work(1, threading.Lock())
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert "argument client" in warnings[0]
        assert tally.counts["work"] == 3

    def test_fails_where_keys_are_strict(self, plain: Engine, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PENSTOCK_STRICT_CACHE_KEYS", "1")
        work = counted(tally, cache_policy=INPUTS)
        with pytest.raises(UnhashableInput, match="argument client"):
            work(1, threading.Lock())
        assert tally.counts["work"] == 0


class TestPersistence:
    def test_of_a_task(self, engine: Engine, store: ResultStore, tally: Tally) -> None:
        counted(tally, persist_result=True)(1)
        (key,) = store.keys()
        assert store.read(key) == [1]
        assert store.info(key).provenance["definition"] == "work"

    def test_of_a_flow_is_inherited(self, plain: Engine, store: ResultStore, tally: Tally) -> None:
        work, never = counted(tally), counted(tally, persist_result=False, name="never")

        @flow
        def inner() -> str:
            work(1)
            return "inner"

        @flow(persist_result=True)
        def outer() -> str:
            inner()
            never(2)
            work.submit(3).result()
            return "outer"

        outer()
        kept = sorted(store.info(key).provenance["definition"] for key in store.keys())  # noqa: SIM118
        assert kept == ["inner", "outer", "work", "work"]

    def test_of_everything(self, store: ResultStore, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PENSTOCK_PERSIST_RESULTS", "true")
        with Engine(results=store):
            counted(tally)(1)
        assert len(store.keys()) == 1

    def test_a_persisted_run_is_found_by_a_retry_of_its_flow(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, persist_result=True)

        @flow(retries=2)
        def run() -> list[int]:
            values = work(1) + work.submit(2).result()
            if runtime.flow_run.run_count < 3:
                raise ValueError("not yet")
            return values

        assert run() == [1, 2]
        assert tally.counts["work"] == 2
        run()
        assert tally.counts["work"] == 4

    def test_where_task_flow_and_engine_say(
        self, plain: Engine, store: ResultStore, tally: Tally, tmp_path: Path
    ) -> None:
        own, flows = ResultStore(tmp_path / "own"), ResultStore(tmp_path / "flows")
        work = counted(tally, persist_result=True)
        apart = work.with_options(result_storage=str(tmp_path / "own"))

        @flow(result_storage=flows, persist_result=False)
        def run() -> None:
            work(1)
            apart(2)

        run()
        work(3)
        assert [[one.read(key) for key in one.keys()] for one in (own, flows, store)] == [[[2]], [[1]], [[3]]]  # noqa: SIM118

    def test_under_a_key_of_ones_own(self, engine: Engine, store: ResultStore, tally: Tally) -> None:
        work = counted(tally, result_storage_key="{flow_run.flow_name}/x-{parameters[x]}-{task_run.task_name}")

        @flow(name="daily")
        def run() -> list[int]:
            return work(7) + work(7)

        assert run() == [7, 7]
        assert store.keys() == ["daily/x-7-work"]
        assert tally.counts["work"] == 1

    def test_with_a_serializer_of_ones_choice(self, plain: Engine, store: ResultStore, tally: Tally) -> None:
        counted(tally, persist_result=True, result_serializer="pickle")(1)
        (key,) = store.keys()
        assert store.info(key).serializer == "pickle"

    def test_out_of_memory(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, persist_result=True, cache_result_in_memory=False)

        @flow
        def run() -> Any:
            future = work.submit(1)
            future.wait()
            return quote([future.state, future.result(), work(5)])

        state, value, called = run()
        assert isinstance(state.data, ResultReference)
        assert state.result() == value == [1]
        assert called == [5]

    def test_a_reference_among_the_arguments_is_loaded(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, persist_result=True, cache_result_in_memory=False)

        @task
        def extend(items: list[int]) -> list[int]:
            return [*items, 2]

        @flow
        def run() -> list[int]:
            return extend.submit(work.submit(1)).result()

        assert run() == [1, 2]

    def test_a_value_that_cannot_be_stored_is_a_failure(self, engine: Engine, store: ResultStore) -> None:
        @task(persist_result=True)
        def make() -> Any:
            return {"inner": threading.Lock()}

        with pytest.raises(SerializationError, match="lock"):
            make()
        assert store.keys() == []

    def test_runs_and_their_results_go_together(self, plain: Engine, store: ResultStore, tally: Tally) -> None:
        work = counted(tally, persist_result=True)

        @flow
        def run() -> str:
            work(1), work(2)
            return runtime.flow_run.id or ""

        first, second = run(), run()
        assert len(store.keys()) == 4
        assert len(store.delete_results(first, dry_run=True)) == 2
        assert len(store.delete_results(first)) == 2
        assert {store.info(key).provenance["flow_run"] for key in store.keys()} == {second}  # noqa: SIM118
        assert store.delete_results(first) == []


@pytest.mark.parametrize(
    "options",
    [
        {"cache_policy": INPUTS, "cache_key_fn": task_input_hash},
        {"cache_policy": INPUTS, "persist_result": False},
        {"cache_policy": "inputs"},
        {"persist_result": True, "result_storage": 7},
    ],
    ids=str,
)
def test_options_that_cannot_work(options: dict[str, Any], plain: Engine, tally: Tally) -> None:
    with pytest.raises(ConfigurationError):
        counted(tally, **options)(1)


class TestSingleFlight:
    def test_a_hundred_coroutines(self, plain: Engine, tally: Tally) -> None:
        @task(cache_policy=INPUTS)
        async def work(x: int) -> int:
            tally.add("work")
            await asyncio.sleep(0.01)  # the work, during which the others come
            return x

        @flow
        async def run() -> list[int]:
            return await asyncio.gather(*(work(1) for _ in range(50)), *(work.submit(1) for _ in range(50)))

        assert asyncio.run(run()) == [1] * 100  # type: ignore[arg-type]
        assert tally.counts["work"] == 1

    def test_a_hundred_submissions(self, engine: Engine, tally: Tally) -> None:
        work = counted(tally, cache_policy=INPUTS)

        @flow
        def run() -> list[list[int]]:
            return work.map([1] * 100).result()

        assert run() == [[1]] * 100
        assert tally.counts["work"] == 1

    def test_a_hundred_threads(self, plain: Engine, tally: Tally) -> None:
        together = threading.Barrier(20)
        work = counted(tally, cache_policy=INPUTS)

        def call(_: int) -> Any:
            together.wait()
            return work(1)

        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(call, range(100))) == [[1]] * 100
        assert tally.counts["work"] == 1

    def test_a_failed_owner_is_not_cached_and_the_next_takes_over(self, plain: Engine, tally: Tally) -> None:
        submitted = threading.Event()

        @task(cache_policy=INPUTS)
        def work(x: int) -> int:
            tally.add("work")
            assert submitted.wait(10)
            if tally.counts["work"] == 1:
                raise ValueError("the first one")
            return x

        @flow
        def run() -> Any:
            futures = [work.submit(1) for _ in range(5)]
            submitted.set()
            for future in futures:
                future.wait()
            return quote(sorted(future.state.name for future in futures))

        assert run() == ["Cached", "Cached", "Cached", "Completed", "Failed"]
        assert tally.counts["work"] == 2

    def test_a_cancelled_owner_gives_way(self, plain: Engine, tally: Tally) -> None:
        @task(cache_policy=INPUTS)
        async def work(x: int) -> int:
            tally.add("work")
            if tally.counts["work"] == 1:
                await asyncio.sleep(3600)
            return x

        @flow
        async def run() -> int:
            first = work.submit(1)
            await asyncio.to_thread(tally.wait_for, "work", 1)
            second = work.submit(1)
            first.cancel()
            return await second

        assert asyncio.run(run()) == 1  # type: ignore[arg-type]
        assert tally.counts["work"] == 2

    def test_an_owner_that_is_cancelled_while_it_asks_for_the_key_gives_way(
        self, plain: Engine, tally: Tally, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asking, cancelled, begun = threading.Event(), threading.Event(), threading.Event()
        begin = locks.SingleFlight.begin

        def slow_begin(flight: locks.SingleFlight, key: str) -> locks.Claim | None:
            if asking.is_set():
                return begin(flight, key)
            asking.set()
            assert cancelled.wait(10)
            claim = begin(flight, key)
            begun.set()
            return claim

        monkeypatch.setattr(locks.SingleFlight, "begin", slow_begin)

        @task(cache_policy=INPUTS)
        async def work(x: int) -> int:
            tally.add("work")
            return x

        @flow
        async def run() -> int:
            first = work.submit(1)
            await asyncio.to_thread(asking.wait)
            first.cancel()
            await wait_async([first])
            cancelled.set()
            await asyncio.to_thread(begun.wait)
            return await asyncio.wait_for(work.submit(1), 10)

        assert asyncio.run(run()) == 1  # type: ignore[arg-type]
        assert tally.counts["work"] == 1

    def test_a_cancelled_waiter_leaves_the_owner_alone(self, plain: Engine, tally: Tally) -> None:
        release = asyncio.Event()

        @task(cache_policy=INPUTS)
        async def work(x: int) -> int:
            tally.add("work")
            await release.wait()
            return x

        @flow
        async def run() -> Any:
            first = work.submit(1)
            await asyncio.to_thread(tally.wait_for, "work", 1)
            second = work.submit(1)
            await asyncio.to_thread(wait_until, lambda: bool(second.run.rests_on), "the second to wait for the first")
            second.cancel()
            release.set()
            return quote([await first, second.state.name])

        value, state = asyncio.run(run())  # type: ignore[arg-type]
        assert (value, state) == (1, "Cancelled")
        assert tally.counts["work"] == 1


class TestCircles:
    @pytest.mark.parametrize("submitted", [False, True], ids=["called", "submitted"])
    def test_a_run_that_waits_for_its_own_key_is_told(self, engine: Engine, submitted: bool) -> None:
        @task(cache_key_fn=lambda context, arguments: "the-only-key")
        def work(depth: int) -> int:
            if depth == 0:
                return 0
            return work.submit(depth - 1).result() if submitted else work(depth - 1)

        @flow
        def run() -> int:
            return work.submit(3).result()

        with pytest.raises(DeadlockError, match="waits for"):
            run()

    def test_coroutines_are_told_too(self, plain: Engine) -> None:
        @task(cache_key_fn=lambda context, arguments: "the-only-key")
        async def work(depth: int) -> int:
            return 0 if depth == 0 else await work.submit(depth - 1)

        @flow
        async def run() -> int:
            return await work.submit(3)

        with pytest.raises(DeadlockError, match="waits for"):
            asyncio.run(run())  # type: ignore[arg-type]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_workers_make_what_they_wait_for_though_others_had_the_keys(self, store: ResultStore, workers: int) -> None:
        # The run that has the key of a value waits for room, which the worker has that waits for the value.
        @task(cache_policy=INPUTS)
        def fibonacci(n: int) -> int:
            if n < 2:
                return n
            one, other = fibonacci.submit(n - 1), fibonacci.submit(n - 2)
            return one.result() + other.result()

        @flow
        def run() -> list[int]:
            return fibonacci.map(range(12, 0, -1)).result()

        with Engine(ThreadPoolTaskRunner(workers), results=store):
            assert run() == [144, 89, 55, 34, 21, 13, 8, 5, 3, 2, 1, 1]

    def test_a_run_inside_a_call_goes_on_when_its_driver_has_got_the_key(self, store: ResultStore) -> None:
        # The driver's run may stand behind this very call; that of another process does not.
        @task(cache_key_fn=lambda context, arguments: "key")
        def work() -> int:
            return 1

        @flow
        def main() -> int:
            return work()

        records = {name: Record(1, name, Owner(name, 1, ""), lease=60.0) for name in ("driver", "another")}
        claims = single_flight(store).claims
        with Engine(results=store) as engine, ThreadPoolExecutor(1) as thread:
            engine.driver = records["driver"].owner
            claims.create("key", records["another"].name, records["another"].encode())
            value = thread.submit(main)
            wait_until(lambda: any(run.waiting_on is not None for run in engine.live), "the run to wait for the key")
            claims.create("key", records["driver"].name, records["driver"].encode())
            claims.remove("key", records["another"].name)
            assert value.result(20.0) == 1

    def test_hundreds_that_wait_for_one_owner_leave_room_for_what_it_takes(self, store: ResultStore) -> None:
        @task(cache_policy=INPUTS)
        def inner(x: int) -> int:
            return x

        @task(cache_policy=INPUTS)
        def outer(x: int) -> int:
            return sum(inner.map(range(x)).result())

        @flow
        def run() -> list[int]:
            return outer.map([20] * 600).result()

        with Engine(ThreadPoolTaskRunner(2), results=store):
            assert run() == [190] * 600

    def test_virtual_time_passes_while_runs_wait_for_an_owner(self, store: ResultStore, tally: Tally) -> None:
        @task(cache_policy=INPUTS, retries=1, retry_delay_seconds=3600)
        def work(x: int) -> int:
            tally.add("work")
            if tally.counts["work"] == 1:
                raise ValueError("once")
            return x

        @flow
        def run() -> list[int]:
            return work.map([1, 1, 1]).result()

        with Engine(results=store, clock=VirtualClock(autojump=True)):
            assert run() == [1, 1, 1]
        assert tally.counts["work"] == 2


class TestDamage:
    def test_a_corrupt_result_is_made_anew(
        self, engine: Engine, store: ResultStore, tally: Tally, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        work = counted(tally, cache_policy=INPUTS)
        work(1)
        (blob,) = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and ".claims" not in path.parts]
        data = bytearray(blob.read_bytes())
        data[-3] ^= 0xFF
        blob.write_bytes(data)
        assert work(1) == [1]
        assert tally.counts["work"] == 2
        assert "made anew" in caplog.text
        assert work(1) == [1]
        assert tally.counts["work"] == 2

    def test_a_store_that_fails_fails_the_run(self, plain: Engine, tmp_path: Path, tally: Tally) -> None:
        faulty = FaultyStore(str(tmp_path / "faulty"), Saboteur(iter(["fail_before"])))
        with pytest.raises(ResultError, match="could not be written"):
            counted(tally, persist_result=True, result_storage=faulty)(1)

    @pytest.mark.parametrize("scheme", ["file", "memory"])
    @pytest.mark.parametrize("block", range(5))
    def test_no_completed_run_without_its_result(self, scheme: str, block: int, tmp_path: Path) -> None:
        """In whatever way the store fails: what a COMPLETED run gave is there, whole, and its own."""
        with Engine():
            for schedule in range(block * 50, block * 50 + 50):
                _check_schedule(f"{scheme}://{tmp_path}/{schedule}", random.Random(schedule))


def _check_schedule(url: str, chance: random.Random) -> None:
    rate = chance.choice((0.05, 0.2, 0.5))
    faults = ("fail_before", "fail_after", "tear", "kill")
    saboteur = Saboteur(iter(lambda: chance.choice(faults) if chance.random() < rate else None, "never"))
    work = _make_work(FaultyStore(url, saboteur))
    completed: dict[int, Any] = {}
    for _ in range(6):
        number = chance.randrange(3)
        try:
            state: State = work(number, return_state=True)
        except Killed:
            saboteur.dead = False
            continue
        if state.is_completed():
            completed[number] = state.result()
    for number, value in completed.items():
        stored = ResultStore(url).read(f"key-{number}")
        assert stored == value == [number] * (10**number)


def _make_work(store: ResultStore) -> Any:
    @task(cache_key_fn=lambda context, arguments: f"key-{arguments['number']}", result_storage=store)
    def work(number: int) -> list[int]:
        return [number] * (10**number)

    return work


class TestCounters:
    def test_count_per_task_flow_run_and_engine(self, engine: Engine, tally: Tally) -> None:
        work, other = counted(tally, cache_policy=INPUTS), counted(tally, cache_policy=INPUTS, name="other")
        runs: list[Any] = []

        @flow
        def run() -> None:
            work(1), work(1), work(1), other(1)

        run.with_options(on_completion=[lambda flow, flow_run, state: runs.append(flow_run)])()
        work(1)
        assert (engine.cache_counts("work").hits, engine.cache_counts("work").misses) == (3, 1)
        assert engine.cache_counts("other").hit_rate == 0
        assert (engine.cache.hits, engine.cache.misses, engine.cache.hit_rate) == (3, 2, 0.6)
        assert (runs[0].cache.hits, runs[0].cache.misses) == (2, 2)


def test_results_lie_where_their_policy_says(engine: Engine, tally: Tally, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    work = counted(tally, cache_policy=INPUTS.configure(key_storage=str(elsewhere)))
    work(1)
    assert len(ResultStore(elsewhere).keys()) == 1
