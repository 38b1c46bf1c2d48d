"""The history in SQLite over apsw, whose file systems may be written in Python: the real statements, on any disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from penstock_history.sqlite import file as sqlite_file


class ApswCursor:
    """A cursor as `sqlite3` has it."""

    def __init__(self, connection: apsw.Connection, cursor: apsw.Cursor) -> None:
        self._cursor = cursor
        self.rowcount = connection.changes()

    def fetchone(self) -> Any:
        with _as_sqlite3():
            return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        with _as_sqlite3():
            return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())


class ApswConnection:
    """A connection as `sqlite3` has it.

    Args:
        path: The file.
        vfs: The name of the file system; alone on the file, because those in Python have no shared memory.
        pragmas: What the connection is told first.
    """

    def __init__(self, path: Path, vfs: str, pragmas: tuple[str, ...]) -> None:
        with _as_sqlite3():
            self._connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE, vfs)
            try:
                for pragma in ("locking_mode = EXCLUSIVE", *pragmas):
                    self._connection.execute(f"PRAGMA {pragma}")
            except apsw.Error:
                self.close()
                raise

    def execute(self, statement: str, values: Any = ()) -> ApswCursor:
        with _as_sqlite3():
            return ApswCursor(self._connection, self._connection.execute(statement, values))

    def close(self) -> None:
        with suppress(apsw.Error):  # as sqlite3 does: the file is closed, and whatever else was tried is tried again
            self._connection.close(True)


@contextmanager
def _as_sqlite3() -> Generator[None, None, None]:
    try:
        yield
    except apsw.Error as error:
        raise sqlite3.OperationalError(str(error)) from error


def use_apsw(monkeypatch: pytest.MonkeyPatch, vfs: str) -> None:
    """Have histories opened through apsw for the rest of the test."""
    monkeypatch.setattr(sqlite_file, "connect", lambda path, mode, *pragmas: ApswConnection(path, vfs, pragmas))
