"""A history's file, and the one way to change it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import HistoryError, HistoryWriteError
from penstock_history.database import Durability
from penstock_history.sqlite_connection import Handle, WriteLock, connect, create
from penstock_history.sqlite_schema import check_version, migrate

__all__ = ("SQLiteFile",)

_SYNCHRONOUS = {"none": "OFF", "fast": "NORMAL", "full": "FULL"}
_LOG_AT_MOST = 64 << 20
"""Bytes to which a write-ahead log is cut that a slow reader has let grow."""


class SQLiteFile:
    """The file of a history, made and brought up to date if need be.

    Args:
        path: Where it is.
        durability: When a commit counts.

    Raises:
        HistoryError: If there can be no history there.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        self._durability: Durability = durability
        self._process = os.getpid()
        with _explained(path, "cannot be opened"):
            create(path)
            self._lock = WriteLock(path)
        self._handle = Handle(self._connect)
        try:
            with self.changing() as connection:
                _bring_up_to_date(connection, path)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def changing(self) -> Generator[sqlite3.Connection, None, None]:
        """Have the connection, and the right to change the file, for the block.

        Raises:
            HistoryWriteError: If SQLite or the system refuses, in the block too.
            HistoryError: If the process is a forked child of the one that opened the file.
        """
        if os.getpid() != self._process:
            raise HistoryError(
                f"The history {self.path} was opened by process {self._process}, and this is a forked child of it, "
                f"process {os.getpid()}. Open the history again here."
            )
        with _explained(self.path, "could not be written"), self._lock.held(), self._handle.use() as connection:
            yield connection

    @contextmanager
    def looking(self) -> Generator[sqlite3.Connection, None, None]:
        """Have the connection for a block that only reads.

        Raises:
            HistoryWriteError: If SQLite or the system refuses.
        """
        with _explained(self.path, "could not be read"), self._handle.use() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Have the connection for a block that happens wholly or not at all.

        Raises:
            HistoryWriteError: If SQLite or the system refuses, in the block too; nothing was written.
        """
        with self.changing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection  # an error closes the connection, which rolls back
            connection.execute("COMMIT")

    def checkpoint(self) -> None:
        """Bring the log into the file, as far as no reader still needs it."""
        with self.changing() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Let go of the file; the second time, do nothing."""
        self._handle.close()
        self._lock.close()

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self.path)
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._durability]}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_AT_MOST}")
        return connection


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    version = check_version(connection, str(path))
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only an empty file takes it
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection, version)


@contextmanager
def _explained(path: Path, what: str) -> Generator[None, None, None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise HistoryWriteError(f"The history {path} {what}: {error}. {_advice(error)}") from error


def _advice(error: sqlite3.Error | OSError) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name == "SQLITE_NOTADB":
        return "Give the path of a history, or one where no file is yet."
    if name.startswith("SQLITE_CORRUPT"):
        return "Move the file away, or mend it with the sqlite3 command's .recover."
    return "See to it that the disk has room, that the file and its folder may be written, and that the disk is sound."
