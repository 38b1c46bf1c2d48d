"""Many processes on one file: none is ever told that it is locked, nothing is lost, and a killed one harms nobody."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from history_callers import LIFE, live, write_for_ever
from sqlite_files import is_sound

from penstock.testing import wait_until
from penstock_history.database import Writer
from penstock_history.records import RunQuery
from penstock_history.sqlite.database import SQLite
from penstock_history.testing.probes import Companion, reading


def check(processes: int, transitions: int, path: Path) -> None:
    """Have processes write at the same time, with readers looking on, and count."""
    database = SQLite(path)
    stop = threading.Event()
    questions = 0

    def look_on() -> None:
        nonlocal questions
        with reading(database) as reader:
            while not stop.is_set():
                for run in reader.runs(RunQuery(limit=20)):
                    states = reader.states(run.id)
                    assert [state.sequence for state in states] == list(range(1, len(states) + 1))
                    assert len(states) >= run.sequence
                    questions += 1

    onlooker = threading.Thread(target=look_on)
    with ExitStack() as stack:
        companions = [stack.enter_context(Companion(database)) for _ in range(processes)]
        onlooker.start()
        try:
            for number, companion in enumerate(companions):
                companion.start(live, transitions, 1 + number % 5)
            runs: list[UUID] = [run for companion in companions for run in companion.answer()]
        finally:
            stop.set()
            onlooker.join()
    assert questions
    assert len(runs) == len(set(runs)) == processes * transitions // LIFE
    with reading(database) as reader:
        for run in runs:
            states = reader.states(run)
            assert [state.sequence for state in states] == list(range(1, LIFE + 1))
            assert states[-1].type == "COMPLETED"
    assert is_sound(path)


def test_processes_write_into_one_file(tmp_path: Path) -> None:
    check(3, 500, tmp_path / "history.db")


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_eight_processes_write_five_thousand_transitions_each(tmp_path: Path) -> None:
    check(8, 5_000, tmp_path / "history.db")


def kill_writers(kills: int, tmp_path: Path) -> None:
    """Kill one writer after another, while one that lives goes on and each new one reaps."""
    database, acknowledged = SQLite(tmp_path / "history.db"), tmp_path / "acknowledged"
    survivor = database.open_writer("fast")
    for kill in range(kills):
        with Companion(database) as companion:
            companion.start(write_for_ever, str(acknowledged))
            size = acknowledged.stat().st_size if acknowledged.exists() else 0
            wait_until(partial(has_grown, acknowledged, size + 1_000, survivor), "groups to be committed side by side")
            time.sleep(kill % 7 / 1_000)  # to kill it at any moment of its work, and not right after a commit
            companion.kill()
        survivor.reap()
        live(survivor, LIFE, 5)
    survivor.close()
    with reading(database) as reader:
        for line in acknowledged.read_text().splitlines():
            assert reader.run(UUID(line)), "acknowledged, and lost when its process was killed"
    assert is_sound(tmp_path / "history.db")


def has_grown(acknowledged: Path, size: int, survivor: Writer) -> bool:
    """Whether the other one has acknowledged so much; this one writes meanwhile."""
    live(survivor, LIFE, LIFE)
    return acknowledged.exists() and acknowledged.stat().st_size >= size


def test_a_killed_writer_harms_no_other(tmp_path: Path) -> None:
    kill_writers(3, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_hundred_killed_writers_harm_no_other(tmp_path: Path) -> None:
    kill_writers(100, tmp_path)
