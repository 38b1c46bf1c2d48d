"""PostgreSQL keeps a history as every database has to, on a real server."""

from __future__ import annotations

import pytest
from postgres import Server

from penstock.testing import HistoryTests
from penstock_history.database import Database, Writer
from penstock_history.postgresql.database import PostgreSQL


class TestPostgreSQL(HistoryTests):
    @pytest.fixture
    def database(self, postgresql_server: Server, postgresql_url: str) -> Database:
        self.server = postgresql_server
        return PostgreSQL(postgresql_url, lease=1.0)

    def lose(self, database: Database, writer: Writer) -> None:
        self.server.cut(database.url.rpartition("/")[2])
