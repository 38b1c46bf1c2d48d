"""Runs that are too old, too many or too much go, with their logs and values; the file does not grow for ever."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError, ResultError, ResultMissing
from penstock.results import ResultStore
from penstock_history.database import Database, Writer
from penstock_history.records import RunQuery, RunRecord
from penstock_history.retention import Deleted, Retention, delete_runs, sweep
from penstock_history.sqlite.database import SQLite
from penstock_history.testing.probes import Story, reading


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return SQLite(tmp_path / "history.db")


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    with closing(database.open_writer("fast")) as writer:
        yield writer


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(str(tmp_path / "results"))


def run_with_values(story: Story, store: ResultStore, keys: str, **fields: object) -> RunRecord:
    """Record a root run, and inside it a task run with a log line for each value."""
    root = story.done(**fields)
    for key in keys:
        task = story.done(inside=root)
        story.result(task, result=store.write(key, key).describe())
        story.log(task, f"stored {key}")
    return root


def test_a_deleted_run_takes_its_logs_and_its_values(database: Database, writer: Writer, store: ResultStore) -> None:
    story = Story(writer)
    first, second = run_with_values(story, store, "abc"), run_with_values(story, store, "cd")
    going_on = story.begin()
    story.write()
    with reading(database) as reader:
        assert delete_runs(reader, writer, [first.id, going_on.id]) == Deleted(runs=4, values=2)
        assert store.keys() == ["c", "d"]
        assert not reader.logs(first.id)
        assert len(reader.logs(second.id)) == 2
        assert {run.id for run in reader.runs(RunQuery())} == {second.id, going_on.id}
        store.delete("d")
        assert delete_runs(reader, writer, [second.id]) == Deleted(runs=3, values=1)
        assert store.keys() == []


def test_a_run_whose_value_cannot_be_deleted_is_still_there(
    database: Database,
    writer: Writer,
    store: ResultStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    story = Story(writer)
    stuck = run_with_values(story, store, "a", created=time.time() - 9_000)
    free = story.done(created=time.time() - 8_000)
    story.write()
    folder = Path(store.url.removeprefix("file://"))
    hidden = folder.rename(folder.with_name("elsewhere"))
    folder.write_text("not a folder")
    with reading(database) as reader:
        with pytest.raises(ResultError):
            delete_runs(reader, writer, [free.id, stuck.id])
        assert reader.run(stuck.id)
        assert reader.run(free.id)
        with caplog.at_level(logging.WARNING, logger="penstock"):
            assert sweep(database, Retention(age=timedelta(hours=1))) == Deleted(runs=1, values=0)
        assert f"The run {stuck.id} is kept" in caplog.text
        assert reader.run(free.id) is None
        folder.unlink()
        hidden.rename(folder)
        assert sweep(database, Retention(age=timedelta(hours=1))) == Deleted(runs=2, values=1)
        assert reader.run(stuck.id) is None
    with pytest.raises(ResultMissing):
        store.read("a")


def test_a_sweep_that_is_interrupted_is_finished_by_the_next(
    database: Database, writer: Writer, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(writer)
    root = run_with_values(story, store, "abc", created=time.time() - 9_000)
    story.write()
    for key in "ab":
        store.delete(key)  # that far it came
    assert sweep(database, Retention(age=timedelta(hours=1))) == Deleted(runs=4, values=1)
    with reading(database) as reader:
        assert reader.run(root.id) is None


@pytest.mark.parametrize(
    "retention", [Retention(count=2), Retention(age=timedelta(seconds=2_500))], ids=["count", "age"]
)
def test_the_newest_are_kept(retention: Retention, database: Database, writer: Writer) -> None:
    story = Story(writer)
    now = time.time()
    runs = [story.done(created=now - 1_000 * age) for age in range(1, 8)]
    old = story.begin(created=now - 1_000_000)
    story.write()
    sweep(database, retention)
    with reading(database) as reader:
        assert {run.id for run in reader.runs(RunQuery(limit=None))} == {runs[0].id, runs[1].id, old.id}


def test_retention_that_cannot_be_is_refused() -> None:
    for wrong in ({"count": -1}, {"size": -1}, {"age": timedelta(-1)}):
        with pytest.raises(ConfigurationError, match=f"Retention\\({next(iter(wrong))}="):
            Retention(**wrong)  # type: ignore[arg-type]


def grow(path: Path, flows: int, retention: Retention, every: int) -> list[int]:
    """Record flows for a while, sweeping now and then; give the sizes of the file after each sweep."""
    database = SQLite(path)
    sizes: list[int] = []
    for _ in range(flows // every):
        with closing(database.open_writer("fast")) as writer:
            story = Story(writer)
            for _ in range(every):
                root = story.flow(story.done(created=time.time(), tags=("steady",)), entrypoint="a:b")
                for position in range(20):
                    story.log(story.done(inside=root, position=position), "a line of some length, as they are")
            story.write()
        sweep(database, retention)
        sizes.append(path.stat().st_size)
    return sizes


@pytest.mark.parametrize("retention", [Retention(count=50), Retention(size=600_000)], ids=["count", "size"])
def test_the_file_is_bounded_under_steady_load(retention: Retention, tmp_path: Path) -> None:
    sizes = grow(tmp_path / "history.db", 600, retention, every=25)
    early, late = max(sizes[4:8]), max(sizes[-4:])
    assert late <= 1.1 * early
    assert sizes[3] > 0.5 * late


def test_space_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    before = grow(path, 200, Retention(), every=200)
    assert sweep(SQLite(path), Retention(count=10)).runs == 190 * 21
    assert path.stat().st_size < before[0] / 4
