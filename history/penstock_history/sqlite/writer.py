"""The one connection of a process that writes into a history in SQLite."""

from __future__ import annotations

import os
import platform
import sqlite3
import time  # noqa: TID251 (when a process began, ended, or was found dead)
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from penstock.errors import HistoryWriteError, OwnerLost, ResumeConflict
from penstock_history.database import Durability
from penstock_history.documents import document
from penstock_history.keys import Numbers
from penstock_history.records import Group, OwnerRecord
from penstock_history.sqlite.deletion import delete_piece, forget, vacuum_piece
from penstock_history.sqlite.file import SQLiteFile
from penstock_history.sqlite.owner_locks import OwnerLocks
from penstock_history.sqlite.owners import bury, end, is_recording, number_of_prefix, register
from penstock_history.sqlite.requests import are_there, put, take
from penstock_history.sqlite.runs import Definition, add_runs, learn_definitions, learn_words
from penstock_history.sqlite.statements import definitions_of, statements, words_of

__all__ = ("SQLiteWriter",)

_KNOWN_AT_MOST = 10_000
"""Texts and definitions whose numbers are known, so that no group asks for them again."""


class SQLiteWriter:
    """See `penstock_history.database.Writer`.

    Args:
        path: The file; it is made and brought up to date if need be.
        durability: When a commit counts.

    Raises:
        HistoryError: If there can be no history there.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self._file = SQLiteFile(path, durability)
        self._numbers = Numbers(self._number)
        self._words: dict[str, int] = {}
        self._definitions: dict[Definition, int] = {}
        try:
            self._owners = OwnerLocks.beside(path)
            self._owner = self._register()
        except BaseException:
            self._file.close()
            raise

    @property
    def owner(self) -> OwnerRecord:
        """See `Writer.owner`."""
        return self._owner

    def key_of(self, run_id: int) -> int:
        """See `Writer.key_of`."""
        return self._numbers.key_of(run_id)

    def write(self, group: Group) -> None:
        """See `Writer.write`."""
        try:
            with self._file.transaction() as connection:
                self._check_owner(connection)
                words = learn_words(connection, words_of(group) - self._words.keys())
                definitions = learn_definitions(connection, definitions_of(group) - self._definitions.keys())
                add_runs(connection, group, {**self._definitions, **definitions}, {**self._words, **words})
                for statement, rows in statements(group):
                    connection.execute(statement, {"rows": document(rows), "owner": self._owner.id})
        except HistoryWriteError as error:
            if "flows.resumes" in str(error.__cause__):
                raise ResumeConflict("The run is being continued already, by another run.") from error
            raise
        self._remember(words, definitions)
        self._file.checkpoint_sometimes()

    def renew(self) -> None:
        """Do nothing: the system sees for itself that this process is alive."""

    def reap(self) -> Sequence[UUID]:
        """See `Writer.reap`."""
        with self._file.transaction() as connection:
            return bury(connection, self._owners.is_alive, time.time())

    def ask_to_cancel(self, run_id: UUID) -> bool:
        """See `Writer.ask_to_cancel`."""
        with self._file.transaction() as connection:
            return put(connection, run_id)

    def to_cancel(self) -> Sequence[UUID]:
        """See `Writer.to_cancel`; the lock of the file is only taken if there is something."""
        with self._file.looking() as connection:
            if not are_there(connection, self._owner.id):
                return ()
        with self._file.transaction() as connection:
            return take(connection, self._owner.id)

    def delete(self, roots: Sequence[UUID]) -> int:
        """See `Writer.delete`."""
        count = 0
        for root in roots:
            while (piece := self._delete_piece(root)) is not None:
                count += piece
                self._file.checkpoint_sometimes()
        with self._file.transaction() as connection:
            forget(connection)
        return count

    def compact(self) -> None:
        """See `Writer.compact`."""
        left = 1
        while left:
            with self._file.changing() as connection:
                left = vacuum_piece(connection)
        with self._file.changing() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """See `Writer.close`; the second time, do nothing."""
        if not self._owners.is_claimed(self._owner.id):
            return
        try:
            with self._file.transaction() as connection:
                end(connection, self._owner.id, time.time())
        finally:
            self._owners.release(self._owner.id)
            self._file.close()

    def _register(self) -> OwnerRecord:
        """Write down who records. Its lock is held before anybody can see that it ought to be."""
        owner = OwnerRecord(0, os.getpid(), platform.node(), time.time())
        with self._file.transaction() as connection:
            owner = replace(owner, id=register(connection, owner))
            self._owners.claim(owner.id)
        return owner

    def _number(self, prefix: bytes) -> int:
        with self._file.transaction() as connection:
            self._check_owner(connection)
            return number_of_prefix(connection, self._owner.id, prefix)

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        if not is_recording(connection, self._owner.id):
            raise OwnerLost(
                f"In the history {self._file.path} this process (owner {self._owner.id}) is down as dead: its lock in "
                f"{self._file.path}.owners was gone when another process looked, as after somebody deleted that file. "
                "Its unfinished runs are CRASHED there and can be resumed; it records nothing more."
            )

    def _delete_piece(self, root: UUID) -> int | None:
        with self._file.transaction() as connection:
            return delete_piece(connection, root)

    def _remember(self, words: Mapping[str, int], definitions: Mapping[Definition, int]) -> None:
        if len(self._words) > _KNOWN_AT_MOST:
            self._words.clear()
        self._words.update(words)
        if len(self._definitions) > _KNOWN_AT_MOST:
            self._definitions.clear()
        self._definitions.update(definitions)
