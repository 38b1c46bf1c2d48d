"""A database that is slow, fails, or takes the process for dead is nobody's business but that of who asked for it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from watching import WatchedDatabase, newest, recording, watched

from penstock import Engine, flow, get_run_logger, task
from penstock.errors import CancelledRun, HistoryWriteError
from penstock.history import History
from penstock.runners import ThreadPoolTaskRunner
from penstock.testing import wait_until
from penstock_history.database import Durability
from penstock_history.recording import backlog, scribe
from penstock_history.records import Group

WATCHDOG = 20.0


def wait(gate: threading.Event) -> None:
    assert gate.wait(WATCHDOG)


@task
def double(value: int) -> int:
    return 2 * value


# --- more than can be written ---


def test_more_than_can_be_written_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is slower than the runs slows them down; memory stays bounded and nothing is lost."""
    monkeypatch.setattr("penstock_history.recording.recorder.MOST_WAITING", 50)
    most = 0

    def look(group: Group) -> None:
        nonlocal most
        most = max(most, len(group.runs))
        time.sleep(0.02)  # the work of a slow disk: longer than 50 runs take

    history = History(tmp_path / "history.db")
    with recording(History(WatchedDatabase(history.database, look))):
        flow(lambda: [double(value) for value in range(500)], name="direct")()
        flow(lambda: double.map(range(500)).result(), name="mapped")()
        asyncio.run(flow(_async_map, name="async")())
    assert most <= 100
    for run in history.runs():
        assert len(list(history.inside(run.id))) == 500
        assert run.state == "Completed"


async def _async_double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def _async_map() -> None:
    await task(_async_double).map(range(500))


def test_nothing_is_left_running_when_the_database_is_gone_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What begins while nothing can be written and no room is left is not recorded; the rest has its end."""
    monkeypatch.setattr("penstock_history.recording.recorder.MOST_WAITING", 50)
    gone = False

    def look(group: Group) -> None:
        if gone:
            raise HistoryWriteError("the cable is out.")

    history = History(tmp_path / "history.db")
    begun, gate = threading.Event(), threading.Event()

    @flow(name="main")
    def main() -> int:
        double(1)
        begun.set()
        gate.wait(WATCHDOG)
        return sum(double(value) for value in range(500))

    with recording(History(WatchedDatabase(history.database, look))) as engine:
        handle = engine.start(main)
        assert begun.wait(WATCHDOG)
        wait_until(lambda: bool(history.runs()), "the run to be recorded")
        gone = True
        gate.set()
        assert handle.result(WATCHDOG) == 249_500
        gone = False
    assert newest(history).state == "Completed"
    runs = list(history.inside(newest(history).id))
    assert 2 <= len(runs) < 500
    assert {run.state for run in runs} == {"Completed"}
    assert caplog.text.count("cannot be written") == 1
    assert "the cable is out." in caplog.text
    assert "not recorded" in caplog.text


def test_a_flood_of_lines_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_MOST_CHARACTERS", 100_000)
    gate = threading.Event()
    history = History(tmp_path / "history.db")
    with recording(History(WatchedDatabase(history.database, lambda _: wait(gate)))):

        @flow(name="main")
        def main() -> None:
            for _ in range(100):
                get_run_logger().warning("x" * 5_000)
            gate.set()

        main()
    assert 10 <= len(history.logs(newest(history).id)) <= 60


# --- when it cannot be written ---


class Cable:
    """Lets groups pass, or not."""

    def __init__(self) -> None:
        self.is_cut = False
        self.was_tried = threading.Event()

    def look(self, _: Group) -> None:
        if self.is_cut:
            self.was_tried.set()
            raise HistoryWriteError("the cable is cut.")


@pytest.mark.parametrize("kind", ["called", "awaited", "submitted"])
def test_full_fails_what_cannot_be_recorded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scribe, "_PATIENCE", 0.2)
    cable = Cable()
    executed: list[int] = []
    hooks: list[str] = []
    options: dict[str, Any] = {
        "retries": 3,
        "on_completion": [lambda *_: hooks.append("completed")],
        "on_failure": [lambda *_: hooks.append("failed")],
    }

    @task(**options)
    def step() -> None:
        executed.append(0)

    @task(**options)
    async def async_step() -> None:
        executed.append(0)

    def steps() -> None:
        cable.is_cut = True
        for _ in range(3):
            step() if kind == "called" else step.submit().result()

    async def async_steps() -> None:
        cable.is_cut = True
        for _ in range(3):
            await async_step()

    with Engine(ThreadPoolTaskRunner(max_workers=1), history=watched(tmp_path / "h.db", cable.look)):
        with pytest.raises(HistoryWriteError, match=r"Task run '.*step-.*must not go on.*the cable is cut"):
            asyncio.run(flow(async_steps)()) if kind == "awaited" else flow(steps)()
        cable.is_cut = False
    assert executed == [0], "neither the function again, nor what comes after it"
    assert hooks == ["failed"]
    (run,) = History(tmp_path / "h.db").inside(newest(History(tmp_path / "h.db")).id)
    assert (run.type, run.attempts) == ("FAILED", 1)
    assert "the cable is cut" in (run.message or "")
    assert newest(History(tmp_path / "h.db")).type == "FAILED"


@pytest.mark.parametrize("durability", ["none", "fast"])
def test_otherwise_nothing_becomes_of_it(
    durability: Durability, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cable = Cable()
    cable.is_cut = True

    @task(persist_result=True, result_storage=tmp_path / "results")
    def kept(value: int) -> int:
        return value

    with Engine(ThreadPoolTaskRunner(max_workers=2), history=watched(tmp_path / "h.db", cable.look, durability)):
        assert flow(lambda: sum(kept(value) for value in range(20)), name="main")() == 190
        assert flow(lambda: sum(kept.map(range(20)).result()), name="main")() == 190
        assert cable.was_tried.wait(60)
        cable.is_cut = False
    assert caplog.text.count("cannot be written") == 1
    assert caplog.text.count("can be written again") <= 1
    history = History(tmp_path / "h.db")
    roots = history.runs()
    assert [root.state for root in roots] == ["Completed", "Completed"]
    for root in roots:
        assert [run.state for run in history.inside(root.id)] == ["Completed"] * 20
        assert all(run.result is not None for run in history.inside(root.id))


def test_a_lost_answer_changes_nothing(tmp_path: Path) -> None:
    """A group that was committed although the answer was lost is written again, and is there once."""
    from itertools import cycle

    from penstock_history.faults import FaultyDatabase

    plan = cycle([None, "fail_after", "fail_before", "fail_after"])

    @task(retries=1, persist_result=True, result_storage=tmp_path / "results")
    def step(value: int, tries: list[int]) -> int:
        tries.append(0)
        if len(tries) < 2:
            raise ValueError
        return value

    history = History(tmp_path / "h.db")
    with Engine(history=History(FaultyDatabase(history.database, plan), "fast")):  # type: ignore[arg-type]
        for _ in range(3):
            flow(lambda: [step(value, []) for value in range(10)], name="main")()
    for root in history.runs():
        assert root.state == "Completed"
        assert [(run.state, run.sequence) for run in history.inside(root.id)] == [("Completed", 4)] * 10
        for run in history.inside(root.id):
            assert [state.sequence for state in history.states(run.id)] == [1, 2, 3, 4]


def test_a_place_that_cannot_be_is_refused_by_an_engine_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryWriteError, match=r"file/h\.db"):
        with Engine(history=tmp_path / "file" / "h.db"):
            raise AssertionError("the engine was entered")
    assert not logging.getLogger("penstock.flow_runs").filters
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-history"]


# --- taken for dead ---

REAP = """
import sys
from penstock.history import History
writer = History(sys.argv[1]).database.open_writer("fast")
print(*writer.reap())
writer.close()
"""


def test_a_process_that_was_taken_for_dead_stops_and_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    history = History(path)

    @task
    def step() -> None: ...

    async def waits() -> None:
        await asyncio.Event().wait()

    with Engine(history=path) as engine:
        handle = engine.start(flow(waits))
        wait_until(lambda: bool(history.runs()) and newest(history).type == "RUNNING", "the run to be recorded")
        Path(f"{path}.owners").unlink()
        reaped = subprocess.run([sys.executable, "-c", REAP, path], check=True, capture_output=True, text=True).stdout
        assert reaped.split() == [str(handle.id)]
        flow(step, name="bearer of the news")()
        with pytest.raises(CancelledRun, match="owner_lost"):
            handle.result(WATCHDOG)
        flow(lambda: step(), name="afterwards")()
    states = {run.definition: (run.type, run.owner) for run in history.runs()}
    assert states["waits"][0] == "CRASHED", "one terminal state, whatever the process thought of it"
    assert states["afterwards"][0] == "COMPLETED"
    assert states["afterwards"][1] != states["waits"][1]
