"""A history in a file of the machine: SQLite, and nothing to install or to start."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from penstock_history.database import Durability
from penstock_history.sqlite.connection import connect
from penstock_history.sqlite.file import SQLiteFile
from penstock_history.sqlite.reader import SQLiteReader
from penstock_history.sqlite.schema import VERSION, check_version, migrate
from penstock_history.sqlite.writer import SQLiteWriter

__all__ = ("SQLite",)


class SQLite:
    """See `penstock_history.database.Database`.

    Beside the file lie ``<file>-wal`` and ``<file>-shm`` (SQLite's), ``<file>.lock`` (whose turn it is to write) and
    ``<file>.owners`` (who is alive). Copy or move them while no process uses them, or copy none but the file.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    @property
    def url(self) -> str:
        """See `Database.url`."""
        return f"sqlite:///{self._path}"

    def open_writer(self, durability: Durability) -> SQLiteWriter:
        """See `Database.open_writer`."""
        return SQLiteWriter(self._path, durability)

    def open_reader(self) -> SQLiteReader:
        """See `Database.open_reader`."""
        return SQLiteReader(self._path, self._connect_reader)

    def migrate(self) -> int:
        """See `Database.migrate`."""
        SQLiteFile(self._path, "full").close()
        return VERSION

    def _connect_reader(self) -> sqlite3.Connection:
        """Open the file to read it; one of an old version, or only just made, is brought up to date first."""
        if not self._path.exists():
            return _nothing()
        connection = connect(self._path, "ro", "query_only = 1")
        try:
            version = check_version(connection, str(self._path))
        except BaseException as error:
            connection.close()
            if not _is_half_made(error):
                raise
            version = 0
        if version == VERSION:
            return connection
        connection.close()
        self.migrate()
        return self._connect_reader()


def _is_half_made(error: BaseException) -> bool:
    """Whether a process died while it made the file, so that somebody who may write has to roll that back."""
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_READONLY")


def _nothing() -> sqlite3.Connection:
    """A history in which nothing is."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(connection, 0)
    return connection
