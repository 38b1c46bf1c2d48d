"""What a listing costs in SQLite: as much as it lists, and not as much as there is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from penstock_history.records import RunQuery
from penstock_history.sqlite.database import SQLite
from penstock_history.sqlite.reader import SQLiteReader
from penstock_history.testing.probes import EPOCH, Story


class Counted:
    """A history with many runs that are alike, and a reader whose steps are counted: SQLite's own, so no clock's."""

    def __init__(self, path: Path, runs: int) -> None:
        self._database = SQLite(path)
        self._steps = 0
        writer = self._database.open_writer("none")
        story = Story(writer)
        root = story.done()
        for _ in range(runs):
            story.done(inside=root, tags=("many",))
        story.done("FAILED", inside=root, state="TimedOut", created=EPOCH)
        story.write()
        writer.close()
        self._reader = SQLiteReader(path, self._connect)

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = self._database._connect_reader()
        connection.set_progress_handler(self._count, 1)
        return connection

    def _count(self) -> int:
        self._steps += 1
        return 0

    def steps(self, query: RunQuery) -> int:
        self._steps = 0
        self._reader.runs(query)
        return self._steps


@pytest.mark.parametrize(
    "query",
    [
        RunQuery(kind="task", limit=5),
        RunQuery(kind=None, states=("running",)),
        RunQuery(kind="task", states=("failed",)),
        RunQuery(kind="task", states=("timedout",)),
        RunQuery(kind="task", states=("nobody's",)),
        RunQuery(kind=None, states=("nobody's", "failed")),
        RunQuery(kind="task", definition="nobody's"),
        RunQuery(kind="task", tag="nobody's"),
        RunQuery(kind="task", tag="many", limit=5),
        RunQuery(kind="task", since=EPOCH + 2_000_000),
    ],
    ids=repr,
)
def test_runs_that_are_not_asked_for_cost_nothing(query: RunQuery, tmp_path: Path) -> None:
    with Counted(tmp_path / "small.db", 50) as small, Counted(tmp_path / "large.db", 5_000) as large:
        assert 0 < large.steps(query) < 2 * small.steps(query)
