"""A history's file, and the one way to change it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import HistoryError, HistoryWriteError
from penstock_history.database import Durability
from penstock_history.faults import point
from penstock_history.sqlite.connection import Handle, WriteLock, connect, create
from penstock_history.sqlite.schema import check_version, migrate

__all__ = ("SQLiteFile",)

_SYNCHRONOUS = {"none": "OFF", "fast": "NORMAL", "full": "FULL"}
_LOG = 16 << 20
"""Bytes of the write-ahead log after which it is brought into the file (benchmarks/history.py), and to which it is cut
when it has grown longer because somebody was reading."""


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
        self._synchronous = f"synchronous = {_SYNCHRONOUS[durability]}"
        self._process = os.getpid()
        self._log = Path(f"{path}-wal")
        self._checkpoint_above = _LOG
        with _explained(path, "cannot be opened"):
            create(path)
            self._identity = _identity(path)
            self._lock = WriteLock(path)
        self._handle = Handle(self._connect)
        try:
            with self.changing() as connection:
                _bring_up_to_date(connection, path)
                connection.execute(f"PRAGMA {self._synchronous}")
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
        with _explained(self.path, "could not be written"), self._lock.held():
            self._check_place()
            with self._handle.use() as connection:
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
            point("history.commit")
            connection.execute("COMMIT")
        point("history.committed")

    def checkpoint_sometimes(self) -> None:
        """Bring the log into the file if it has become long, as far as no reader still needs it.

        A log that was brought in is begun again by the next commit, which cuts it. While somebody reads it grows on;
        then the next try waits until it has grown as much again.
        """
        size = _size(self._log)
        if size <= _LOG:
            self._checkpoint_above = _LOG
        elif size > self._checkpoint_above:
            self._checkpoint_above = size + _LOG
            try:
                with self.changing() as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except HistoryWriteError:
                pass  # all is committed and stays in the log; if the trouble lasts, the next write says so

    def close(self) -> None:
        """Let go of the file; the second time, do nothing."""
        self._handle.close()
        self._lock.close()

    def _check_place(self) -> None:
        if _identity(self.path) != self._identity:
            raise HistoryWriteError(
                f"The history {self.path} was removed or replaced while this process recorded in it, and what it "
                "recorded from now on would be lost with the old file. Restart the program to record in a new one."
            )

    def _connect(self) -> sqlite3.Connection:
        return connect(
            self.path,
            "rw",
            self._synchronous,
            f"journal_size_limit = {_LOG}",
            "wal_autocheckpoint = 0",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is that has this name now."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    # Whatever the history's durability is, its tables are there to stay. EXTRA also waits until the rollback journal is
    # gone for good, under which a file becomes one with a write-ahead log: after a power cut it would undo the tables.
    connection.execute("PRAGMA synchronous = EXTRA")
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
