"""What an engine does is what its history says."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from watching import newest, recording
from worlds import WORLDS, World

from penstock import Engine, flow, get_run_logger, tags, task
from penstock.errors import ConfigurationError, UpstreamFailed
from penstock.history import History, RunQuery, RunRecord
from penstock.results import ResultReference
from penstock.runners import ProcessPoolTaskRunner
from penstock.testing import wait_until

WATCHDOG = 20.0


def inside(history: History) -> dict[str, RunRecord]:
    """The runs inside the newest root run, by their definitions."""
    return {run.definition: run for run in history.inside(newest(history).id)}


def names_of_states(history: History, run: RunRecord) -> list[str]:
    return [state.name for state in history.states(run.id)]


def wait(gate: threading.Event) -> None:
    assert gate.wait(WATCHDOG)


@task
def double(value: int) -> int:
    return 2 * value


# --- states, attempts and places ---


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_a_flow_and_its_tasks(world: World, history: History) -> None:
    @task
    async def called(value: int) -> int:
        return value

    async def body() -> Any:
        await world.get(called(1))
        futures = [called.submit(value) for value in range(2)]
        await world.get(double.submit(3))
        return [await world.get(future) for future in futures]

    called = task(world.function(called.fn), name="called")
    with recording(history):
        before = time.time()
        assert world.run(flow(world.function(body), name="main")) == [0, 1]
        after = time.time()
    root = newest(history)
    assert (root.kind, root.definition, root.state) == ("flow", "main", "Completed")
    assert (root.parent, root.root) == (None, root.id)
    children = list(history.inside(root.id))
    placed = {(child.definition, child.position, child.parent, child.root) for child in children}
    assert placed == {("called", number, root.id, root.id) for number in range(3)} | {("double", 0, root.id, root.id)}
    for run in (root, *children):
        states = history.states(run.id)
        assert [(state.sequence, state.type) for state in states] == [(1, "PENDING"), (2, "RUNNING"), (3, "COMPLETED")]
        times = [state.time for state in states]
        assert before <= times[0] <= times[1] <= times[2] <= after
        (attempt,) = history.attempts(run.id)
        assert (attempt.number, attempt.started, attempt.ended) == (1, times[1], times[2])


def test_attempts_and_when_the_next_is_due(history: History) -> None:
    tries: list[float] = []

    @task(retries=2, retry_delay_seconds=[0.05, 0])
    def third_time_lucky() -> None:
        tries.append(time.time())
        if len(tries) < 3:
            raise ValueError(f"not the {len(tries)}.")

    with recording(history):
        flow(lambda: third_time_lucky.submit().result(), name="main")()
    run = inside(history)["third_time_lucky"]
    states = history.states(run.id)
    named = [(state.sequence, state.name, state.attempt) for state in states]
    assert named == [
        (1, "Pending", 0),
        (2, "Running", 1),
        (3, "AwaitingRetry", 1),
        (4, "Retrying", 2),
        (5, "Retrying", 3),
        (6, "Completed", 3),
    ]
    waiting = states[2]
    assert waiting.message is not None
    assert "not the 1." in waiting.message
    assert waiting.due is not None
    assert waiting.time < waiting.due <= tries[1]
    assert (run.attempts, run.sequence) == (3, 6)
    first, second, third = history.attempts(run.id)
    assert [first.number, second.number, third.number] == [1, 2, 3]
    assert first.ended == waiting.time
    assert third.state == "Completed"


def test_ends_of_all_kinds(history: History) -> None:
    @task
    def fails() -> None:
        raise LookupError("nothing there")

    @task
    def after(value: Any) -> None: ...

    @task
    def endless() -> None:
        threading.Event().wait(WATCHDOG)

    gate = threading.Event()

    @task(timeout_seconds=0.02)
    def too_slow() -> None:
        wait(gate)

    @flow(name="main")
    def main() -> None:
        failed = fails.submit()
        skipped = after.submit(failed)
        with pytest.raises(LookupError):
            failed.result()
        with pytest.raises(UpstreamFailed):
            skipped.result()
        with pytest.raises(TimeoutError):
            too_slow()
        gate.set()
        running = endless.submit()
        wait_until(lambda: running.state.is_running(), "the task to run")
        running.cancel()

    with Engine(ProcessPoolTaskRunner(max_workers=1), history=history, grace=5.0):
        main()
    runs = inside(history)
    states = {name: (run.type, run.state) for name, run in runs.items()}
    assert states == {
        "fails": ("FAILED", "Failed"),
        "after": ("SKIPPED", "UpstreamFailed"),
        "too_slow": ("FAILED", "TimedOut"),
        "endless": ("CANCELLED", "Cancelled"),
    }
    assert "nothing there" in (runs["fails"].message or "")
    assert names_of_states(history, runs["after"]) == ["Pending", "UpstreamFailed"]
    assert runs["after"].started is None
    assert history.attempts(runs["after"].id) == []


def test_what_a_worker_did(history: History) -> None:
    with Engine(ProcessPoolTaskRunner(max_workers=1), history=history):
        _nested_flow()
    root = newest(history)
    runs = list(history.inside(root.id))
    outers = [run for run in runs if run.definition == "_outer"]
    inners = [run for run in runs if run.definition == "_inner"]
    assert [(run.parent, run.position) for run in outers] == [(root.id, 0), (root.id, 1)]
    assert sorted((str(run.parent), run.position) for run in inners) == sorted(
        (str(outer.id), position) for outer in outers for position in (0, 1)
    )
    for run in (*outers, *inners):
        assert run.worker is not None
        assert run.worker.startswith("pid ")
        assert names_of_states(history, run)[0] == "Pending"
        assert run.type == "COMPLETED"
    assert all(run.seconds is not None and run.seconds >= 0 for run in outers), "measured by the worker"
    assert [names_of_states(history, run) for run in inners if run.position == 1] == [
        ["Pending", "Running", "Retrying", "Completed"]
    ] * 2
    lines = [line for line in history.logs(root.id) if "inner says" in line.message]
    assert {line.run for line in lines} == {run.id for run in inners}


@task(retries=1)
def _inner(name: str, tries: list[int]) -> str:
    tries.append(0)
    if name == "b" and len(tries) < 2:
        raise ValueError
    get_run_logger().warning("inner says %s", name)
    return name


@task
def _outer(number: int) -> str:
    return _inner("a", []) + _inner("b", [])


@flow
def _nested_flow() -> None:
    assert _outer.map(range(2)).result() == ["ab", "ab"]


def test_names_and_tags(history: History) -> None:
    @task(task_run_name="load {day}", tags=["io"])
    def load(day: str) -> str:
        return day

    @task
    def merge(days: list[str]) -> None: ...

    @flow(flow_run_name="days from {first:02}")
    def days(first: int) -> None:
        with tags("night"):
            loaded = load.submit(load.submit("monday"))
        merge([loaded])

    with recording(history):
        days("7")  # type: ignore[arg-type]
    root = newest(history)
    assert root.name == "days from 07", "the name is made of the parameters as they are after validation"
    assert [run.name for run in history.inside(root.id) if run.definition == "load"] == ["load monday"] * 2
    assert {tuple(run.tags) for run in history.inside(root.id)} == {("io", "night"), ()}
    merged = inside(history)["merge"]
    assert merged.name == f"merge-{merged.id.int % 4096:03x}"


def test_positions_begin_again_with_each_attempt(history: History) -> None:
    tries: list[int] = []

    @flow(retries=1, name="main")
    def main() -> None:
        double(1)
        double(2)
        tries.append(0)
        if len(tries) < 2:
            raise ValueError

    with recording(history):
        main()
    assert [run.position for run in history.inside(newest(history).id)] == [0, 1, 0, 1]


def test_where_a_value_is_stored(history: History, tmp_path: Path) -> None:
    @task(persist_result=True, result_storage=tmp_path / "results", cache_key_fn=lambda *_: "always")
    def costly() -> list[int]:
        return [1, 2, 3]

    with recording(history):
        flow(costly, name="main")()
        flow(costly, name="main")()
    first, second = (
        run for root in reversed(history.runs(RunQuery(roots_only=True))) for run in history.inside(root.id)
    )
    assert (first.cached, second.cached) == (False, True)
    assert second.state == "Cached"
    for run in (first, second):
        assert run.result is not None
        assert ResultReference(**run.result).load() == [1, 2, 3]
        assert run.code is not None
        assert run.inputs is not None
    assert (first.code, first.inputs) == (second.code, second.inputs)


def test_how_to_begin_a_flow_again(history: History) -> None:
    with recording(history):
        _configured(3, name="x")
    root = newest(history)
    assert root.entrypoint == f"{__name__}:_configured"
    assert root.version == "2.1"
    assert root.parameters == '{"number":3,"name":"x"}'
    assert root.code is not None


@flow(version="2.1")
def _configured(number: int, name: str = "y") -> None: ...


def test_a_run_is_seen_while_it_goes_on(history: History) -> None:
    gate = threading.Event()

    @task
    def waits() -> None:
        gate.wait(WATCHDOG)

    with recording(history) as engine:
        handle = engine.start(flow(lambda: waits.submit().result(), name="main"))
        wait_until(
            lambda: bool(history.runs()) and [run.type for run in history.inside(newest(history).id)] == ["RUNNING"],
            "the run to be recorded",
        )
        assert newest(history).state == "Running"
        gate.set()
        handle.result(WATCHDOG)
    assert newest(history).state == "Completed"
    assert inside(history)["waits"].sequence == 3


def test_a_run_that_was_just_started_is_known(history: History) -> None:
    begun, gate = threading.Event(), threading.Event()

    @flow
    def waiting() -> None:
        begun.set()
        wait(gate)

    with recording(history) as engine:
        for _ in range(20):
            begun.clear()
            future = engine.start(waiting)
            wait(begun)
            assert history.run(future.id).name == future.name
        gate.set()


# --- engines, processes and threads ---


def test_two_engines_share_one_writer(history: History) -> None:
    with recording(history) as one, recording(History(history.url)) as other:
        assert one.recorder is other.recorder
        one.start(flow(lambda: double(1), name="one")).result(WATCHDOG)
        other.start(flow(lambda: double(1), name="other")).result(WATCHDOG)
        writers = [thread.name for thread in threading.enumerate() if thread.name == "penstock-history"]
        assert len(writers) == 1
    assert {run.definition for run in history.runs()} == {"one", "other"}
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-history"]


def test_the_inner_engine_leaves_the_outer_one_its_history(history: History) -> None:
    @flow(name="outer")
    def outer() -> None:
        with recording(History(history.url)) as inner:
            inner.start(flow(lambda: double(1), name="inner")).result(WATCHDOG)
        double(2)

    with recording(history):
        outer()
    runs = {run.definition: run for run in history.runs()}
    assert runs["outer"].state == "Completed"
    assert runs["inner"].state == "Completed"
    assert [run.state for run in history.inside(runs["outer"].id)] == ["Completed"]


def test_one_history_has_one_durability(history: History) -> None:
    with recording(history):
        with pytest.raises(ConfigurationError, match=r"already, with durability='fast'.*not durability='full'"):
            Engine(history=History(history.url, "full"))
    with Engine(history=History(history.url, "full")):
        flow(lambda: double(1), name="main")()
    assert newest(history).state == "Completed"


@pytest.mark.parametrize("where", [7, object()])
def test_what_is_no_history_is_refused(where: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a History, a URL or a path"):
        Engine(history=where)
    with pytest.raises(ConfigurationError, match="give 'none', 'fast' or 'full'"):
        History("history.db", "often")  # type: ignore[arg-type]


async def test_an_async_engine_opens_and_closes_off_the_loop(history: History) -> None:
    async with Engine(history=history):
        assert await flow(_async_main)() == 4
    assert newest(history).state == "Completed"
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-history"]


async def _async_main() -> int:
    return await task(_async_double)(2)


async def _async_double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value
