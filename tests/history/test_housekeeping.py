"""A history that is to keep only so much parts with the rest while programs go on."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from penstock import Engine, flow, task
from penstock.errors import ConfigurationError
from penstock.history import History, Retention, RunQuery
from penstock.results import ResultStore
from penstock.testing import wait_until
from penstock_history.recording import housekeeper


@task
def same(number: int) -> int:
    return number


@flow
def numbers(count: int) -> int:
    return sum(same(number) for number in range(count))


def roots(history: History) -> int:
    return len(history.runs(RunQuery(roots_only=True, limit=1_000)))


def record(folder: Path, retention: Retention) -> None:
    """Run one flow in an engine that lives only for it."""
    with Engine(history=History(folder / "history.db", retention=retention)):
        numbers(50)


def size(file: Path) -> int:
    """How many pages there are, those included that are still in the log."""
    with closing(sqlite3.connect(file)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return int(pages)


def test_what_was_too_much_when_a_program_begins_goes_while_it_runs(tmp_path: Path) -> None:
    with Engine(history=History(tmp_path / "history.db"), results=tmp_path / "results"):
        for _ in range(8):
            numbers.with_options(persist_result=True)(2)
    history = History(tmp_path / "history.db", retention=Retention(count=3))

    @flow
    def sees_them_go() -> None:
        wait_until(lambda: roots(history) == 4, "all but this run and three of those that had ended to be gone")

    assert len(ResultStore(str(tmp_path / "results")).keys()) == 8 * 3
    with Engine(history=history, results=tmp_path / "results"):
        sees_them_go()
    assert len(ResultStore(str(tmp_path / "results")).keys()) == 3 * 3


def test_the_file_stays_bounded_under_steady_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeper, "_PAUSE", 0.02)
    bounded, unbounded = tmp_path / "bounded.db", tmp_path / "unbounded.db"
    history = History(bounded, retention=Retention(count=10))
    with Engine(history=history) as engine:
        for _ in range(20):
            for _ in range(25):
                numbers(50)
            history.open(engine).flush(10)
            wait_until(lambda: roots(history) == 10, "all but ten to be gone")
    with Engine(history=unbounded):
        for _ in range(20 * 25):
            numbers(50)
    assert size(bounded) < size(unbounded) / 2


def test_short_programs_each_part_with_some(tmp_path: Path) -> None:
    for _ in range(12):
        record(tmp_path, Retention(count=2))
    assert roots(History(tmp_path / "history.db")) < 7


def test_no_thread_stays_behind(tmp_path: Path) -> None:
    record(tmp_path, Retention(age=timedelta(days=1)))
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-housekeeper"]


def test_two_retentions_of_one_file_are_refused(tmp_path: Path) -> None:
    first = History(tmp_path / "history.db", retention=Retention(count=1))
    second = History(tmp_path / "history.db")
    with Engine(history=first), pytest.raises(ConfigurationError, match=r"retention=Retention\(.*count=1"):
        Engine(history=second).__enter__()


@pytest.mark.parametrize(
    ("text", "retention"),
    [
        ("30d", Retention(age=timedelta(days=30))),
        ("10000", Retention(count=10_000)),
        ("2GB", Retention(size=2_000_000_000)),
        ("2w 500 1.5MiB", Retention(timedelta(weeks=2), 500, 1_572_864)),
    ],
)
def test_a_setting_says_it_in_words(text: str, retention: Retention, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_RETENTION", text)
    assert History(Path("history.db")).retention == retention


@pytest.mark.parametrize("text", ["soon", "3x", "B"])
def test_a_setting_that_says_nothing_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_RETENTION", text)
    with pytest.raises(ConfigurationError, match="PENSTOCK_RETENTION"):
        History(Path("history.db"))
