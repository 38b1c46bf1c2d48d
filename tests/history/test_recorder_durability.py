"""What is acknowledged is recorded: with every durability, in every world, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from watching import newest, watched
from worlds import WORLDS, World

from penstock import Engine, flow, task
from penstock.history import History
from penstock.keeping import Keeper
from penstock.results import ResultStore
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock_history.database import Durability
from penstock_history.recording import recorder
from penstock_history.records import CHANGES, RESULTS, RUNS, TYPES, Group

WATCHDOG = 20.0
COMPLETED = TYPES.index("COMPLETED")


# --- value stored, COMPLETED recorded, acknowledged: in this order ---


class Witness:
    """Looks at each group right before it is committed.

    Attributes:
        told: The names of runs whose end somebody has been told of.
        recorded: The names of those whose COMPLETED was committed.
        wrong: What was found to be in the wrong order.
    """

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._names: dict[int, str] = {}
        self.told: set[str] = set()
        self.recorded: set[str] = set()
        self.wrong: list[str] = []

    def look(self, group: Group) -> None:
        runs = [dict(zip(RUNS, row, strict=True)) for row in group.runs]
        self._names.update({run["id"]: run["name"] for run in runs})
        changes = [{"id": row[0], **dict(zip(CHANGES, row, strict=True))} for row in group.changes]
        self._names.update({run["id"]: run["name"] for run in changes if run["name"] is not None})
        ended = [self._names[run["id"]] for run in (*runs, *changes) if run["type"] == COMPLETED]
        self.wrong += [f"{name} was acknowledged before it was recorded" for name in ended if name in self.told]
        for row in group.results:
            result = dict(zip(RESULTS, row, strict=True))
            if not self._store.exists(result["key"]):
                self.wrong.append(f"{self._names[result['run']]} was recorded before its value was stored")
        self.recorded.update(ended)


def acknowledge_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder.Recorder, "comes_first", lambda *_: False)


def store_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run keep a reference to a value that is only stored when the run has ended."""
    late: dict[Keeper, Callable[[], object]] = {}
    keep, leave = Keeper.keep, Keeper.leave

    def keep_late(self: Keeper, value: Any) -> Any:
        place = self.store
        here = ResultStore(f"{place.url}-elsewhere")
        monkeypatch.setattr(Keeper, "store", here)
        keep(self, value)
        monkeypatch.undo()
        store_at_last(monkeypatch)
        assert self.run.kept is not None
        reference = self.run.kept.reference
        self.run.kept = replace(self.run.kept, reference=replace(reference, url=place.url))
        late[self] = lambda: place.write(value, reference.key)
        return value

    def leave_late(self: Keeper) -> bool:
        if self in late:
            late.pop(self)()
        return leave(self)

    monkeypatch.setattr(Keeper, "__hash__", lambda self: id(self))
    monkeypatch.setattr(Keeper, "keep", keep_late)
    monkeypatch.setattr(Keeper, "leave", leave_late)


@pytest.mark.parametrize(
    ("sabotage", "found"),
    [
        (None, None),
        (acknowledge_at_once, "was acknowledged before it was recorded"),
        (store_at_last, "was recorded before its value was stored"),
    ],
)
@pytest.mark.parametrize("durability", ["fast", "full"])
@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_the_order(
    world: World,
    durability: Durability,
    sabotage: Callable[[pytest.MonkeyPatch], None] | None,
    found: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ResultStore(tmp_path / "results")
    witness = Witness(store)
    if sabotage is not None:
        sabotage(monkeypatch)

    def told(_: Any, run: Any, __: Any) -> None:
        witness.told.add(run.name)

    @task(task_run_name="called-{number}", persist_result=True, result_storage=store)
    async def called(number: int) -> int:
        return number

    @task(task_run_name="submitted-{number}", persist_result=True, result_storage=store, on_completion=[told])
    async def submitted(number: int) -> int:
        return number

    async def body() -> int:
        total = 0
        for number in range(3):
            total += await world.get(called(number))
            witness.told.add(f"called-{number}")
        for future in [submitted.submit(number) for number in range(5)]:
            total += await world.get(future)
        return total

    called = called.with_options() if world.is_async else _synchronous(world, called)
    submitted = submitted.with_options() if world.is_async else _synchronous(world, submitted)
    engine = Engine(ThreadPoolTaskRunner(max_workers=2), history=watched(tmp_path / "h.db", witness.look, durability))
    with engine:
        assert world.run(flow(world.function(body), name="main")) == 13
        assert len(witness.told) == 8
        if sabotage is None:
            assert witness.told <= witness.recorded
    if found is None:
        assert witness.wrong == []
    else:
        assert witness.wrong
        assert all(found in line for line in witness.wrong)


def _synchronous(world: World, asynchronous: Any) -> Any:
    return task(world.function(asynchronous.fn), **asynchronous.options)


def test_full_acknowledges_runs_without_stored_values_too(tmp_path: Path) -> None:
    witness = Witness(ResultStore(tmp_path / "results"))

    @task(task_run_name="plain-{number}")
    def plain(number: int) -> None: ...

    @flow(flow_run_name="inner")
    def inner() -> None: ...

    with Engine(history=watched(tmp_path / "h.db", witness.look)):

        @flow(flow_run_name="main")
        def main() -> None:
            for number in range(3):
                plain(number)
                assert f"plain-{number}" in witness.recorded
            inner()
            assert "inner" in witness.recorded

        main()
        assert "main" in witness.recorded


def test_fast_makes_runs_wait_only_for_stored_values(tmp_path: Path) -> None:
    gate, seen = threading.Event(), threading.Event()

    def look(_: Group) -> None:
        seen.set()
        assert gate.wait(WATCHDOG)

    @task
    def plain() -> int:
        return 1

    with Engine(history=watched(tmp_path / "h.db", look, "fast")):
        assert flow(lambda: sum(plain() for _ in range(100)), name="main")() == 100
        assert seen.wait(WATCHDOG)
        assert flow(lambda: plain.submit().result(), name="main")() == 1, "while the database stands still"
        gate.set()


# --- how full waits ---


def test_many_runs_share_a_commit(tmp_path: Path) -> None:
    groups: list[int] = []

    @task
    async def on_loop(value: int) -> int:
        return value

    @task
    def on_thread(value: int) -> int:
        return value

    async def gathered() -> int:
        return sum(await asyncio.gather(*[on_loop(value) for value in range(500)]))

    with Engine(ThreadPoolTaskRunner(max_workers=2), history=watched(tmp_path / "h.db", lambda g: groups.append(0))):
        assert asyncio.run(flow(gathered)()) == 124_750
        assert len(groups) < 100
        groups.clear()
        assert sum(flow(lambda: on_thread.map(range(500)).result(), name="main")()) == 124_750
        assert len(groups) < 400
        groups.clear()
        flow(lambda: [on_thread(value) for value in range(20)], name="main")()
        assert len(groups) > 20, "one after the other, each waits for its own"


@pytest.mark.parametrize("runner", [SequentialTaskRunner, ThreadPoolTaskRunner])
def test_the_writers_thread_executes_nothing_of_the_users(runner: Any, tmp_path: Path) -> None:
    threads: set[str] = set()

    def note(*_: Any) -> None:
        threads.add(threading.current_thread().name)

    @task(on_completion=[note])
    def step(value: int) -> int:
        note()
        return value + 1

    def chain() -> int:
        value: Any = 0
        for _ in range(5):
            value = step.submit(value)
        return int(value.result())

    with Engine(runner(), history=History(tmp_path / "h.db", "full")):
        assert flow(chain)() == 5
    assert threads
    assert "penstock-history" not in threads


async def test_a_cancellation_while_it_is_written_comes_too_late(tmp_path: Path) -> None:
    gate, writing = threading.Event(), threading.Event()
    ended: list[str] = []

    def look(group: Group) -> None:
        if any(row[RUNS.index("definition")] == "noop" for row in group.runs):
            writing.set()
            assert gate.wait(WATCHDOG)

    @task(on_completion=[lambda *_: ended.append("completed")], on_cancellation=[lambda *_: ended.append("cancelled")])
    async def noop() -> None: ...

    async with Engine(history=watched(tmp_path / "h.db", look)):
        caller = asyncio.create_task(flow(_awaits)(noop))
        await asyncio.to_thread(writing.wait, WATCHDOG)
        caller.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not caller.done(), "the cancellation waits for what is being written"
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert ended == ["completed"]
    history = History(tmp_path / "h.db")
    assert newest(History(tmp_path / "h.db")).state == "Cancelled"
    assert [run.state for run in history.inside(newest(History(tmp_path / "h.db")).id)] == ["Completed"]


async def _awaits(called: Any) -> None:
    await called()


def test_a_submitted_run_is_cancelled_too_late(tmp_path: Path) -> None:
    gate, writing = threading.Event(), threading.Event()

    def look(group: Group) -> None:
        if any(row[RUNS.index("definition")] == "answer" for row in group.runs):
            writing.set()
            assert gate.wait(WATCHDOG)

    @task
    def answer() -> int:
        return 42

    @flow(name="main")
    def main() -> int:
        future = answer.submit()
        assert writing.wait(WATCHDOG)
        future.cancel()
        gate.set()
        return future.result()

    with Engine(ThreadPoolTaskRunner(max_workers=1), history=watched(tmp_path / "h.db", look)):
        assert main() == 42
