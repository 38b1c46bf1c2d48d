"""The shipped suite finds what is wrong with databases that are wrong on purpose."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from broken_histories import FAULTS, Broken

from penstock_history.database import Database, Writer
from penstock_history.sqlite.database import SQLite
from penstock_history.sqlite.reader import SQLiteReader
from penstock_history.sqlite.writer import SQLiteWriter
from penstock_history.testing.suite import HistoryTests


class Suite(HistoryTests):
    patience = 0.5

    def lose(self, database: Database, writer: Writer) -> None:
        Path(f"{database.url.removeprefix('sqlite:///')}.owners").unlink()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_database_fails_the_test_that_names_its_fault(
    fault: type[SQLiteWriter | SQLiteReader], tmp_path: Path
) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(FAULTS[fault], Broken(tmp_path / "history.db", fault))


def test_an_heir_that_lacks_something_is_told(tmp_path: Path) -> None:
    database = SQLite(tmp_path / "history.db")
    with pytest.raises(NotImplementedError, match=r"HistoryTests\.lose"):
        run("test_who_was_taken_for_dead_writes_no_more", database, HistoryTests())


def test_the_harness_passes_a_sound_database(tmp_path: Path) -> None:
    run("test_every_question_gets_the_newest_that_fit", SQLite(tmp_path / "history.db"))


def run(name: str, database: SQLite, suite: HistoryTests | None = None) -> None:
    """Call a test of the suite as pytest would."""
    test: Callable[..., None] = getattr(suite or Suite(), name)
    wanted = inspect.signature(test).parameters
    writer = database.open_writer("fast") if "writer" in wanted else None
    arguments = {"database": database, "writer": writer}
    try:
        test(**{key: value for key, value in arguments.items() if key in wanted})
    finally:
        if writer is not None:
            writer.close()
