"""The shipped suite over SQLite, and what only a file can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_history.database import Database, Writer
from penstock_history.sqlite import SQLite
from penstock_history.testing import HistoryTests


class TestSQLite(HistoryTests):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Database:
        return SQLite(tmp_path / "history.db")

    def lose(self, database: Database, writer: Writer) -> None:
        Path(f"{database.url.removeprefix('sqlite:///')}.owners").unlink()
