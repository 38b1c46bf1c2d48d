"""A read-only view of a history in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from penstock.errors import HistoryError
from penstock_history.records import (
    AttemptRecord,
    LogRecord,
    RunQuery,
    RunRecord,
    StateRecord,
    all_attempts,
    all_states,
)
from penstock_history.rows import state_record
from penstock_history.sqlite.connection import Handle
from penstock_history.sqlite.expiry import expired_roots, used_bytes
from penstock_history.sqlite.listing import list_runs
from penstock_history.sqlite.owner_locks import OwnerLocks
from penstock_history.sqlite.rows import JOINED, RUN, Rows
from penstock_history.sqlite.schema import VERSION
from penstock_history.sqlite.search import keys_that_fit
from penstock_history.sqlite.tree import find, inside

__all__ = ("SQLiteReader",)

_PAGE = 2_000
"""Runs that are read at once where all are asked for, so that no reader keeps the log from being brought in."""


class SQLiteReader:
    """See `penstock_history.database.Reader`.

    Args:
        path: The file.
        connect: Opens a connection that only reads.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._handle = Handle(connect)
        self._rows = Rows()

    def runs(self, query: RunQuery) -> list[RunRecord]:
        """See `Reader.runs`."""
        with self._reading() as connection:
            return self._rows.runs(connection, list(list_runs(connection, query)))

    def run(self, run_id: UUID) -> RunRecord | None:
        """See `Reader.run`."""
        with self._reading() as connection:
            found = find(connection, run_id)
            return None if found is None else self._runs(connection, [found.key])[0]

    def find(self, text: str) -> list[RunRecord]:
        """See `Reader.find`."""
        with self._reading() as connection:
            return self._runs(connection, keys_that_fit(connection, text))

    def states(self, run_id: UUID) -> list[StateRecord]:
        """See `Reader.states`."""
        with self._reading() as connection:
            found = find(connection, run_id)
            if found is None:
                return []
            rows = connection.execute(
                """SELECT sequence, type, name, message, time, attempt, due,
                    (SELECT word FROM words WHERE id = worker), seconds FROM states WHERE run = ?""",
                (found.key,),
            )
            return all_states(self._runs(connection, [found.key])[0], list(map(state_record, rows)))

    def attempts(self, run_id: UUID) -> list[AttemptRecord]:
        """See `Reader.attempts`."""
        return all_attempts(self.states(run_id))

    def logs(self, root: UUID, after: int = 0, limit: int | None = None) -> list[LogRecord]:
        """See `Reader.logs`."""
        with self._reading() as connection:
            found = find(connection, root)
            if found is None:
                return []
            wanted = None if found.is_root else {found.key, *inside(connection, found)}
            rows = connection.execute(
                """SELECT logs.id, run, time, level, words.word, message
                FROM logs INDEXED BY logs_by_root LEFT JOIN words ON words.id = logger
                WHERE root = ? AND logs.id > ? ORDER BY logs.id""",
                (found.root, after),
            )
            lines = (row for row in rows if wanted is None or row[1] in wanted)
            return [
                LogRecord(number, self._rows.id(connection, run), *rest)
                for number, run, *rest in list(islice(lines, limit))
            ]

    def inside(self, root: UUID) -> Iterator[RunRecord]:
        """See `Reader.inside`."""
        with self._reading() as connection:
            found = find(connection, root)
        last = (float("-inf"), 0)
        while found is not None:
            with self._reading() as connection:
                rows = connection.execute(
                    f"""SELECT {RUN} FROM runs INDEXED BY runs_by_root {JOINED}
                    WHERE runs.root = ?1 AND (runs.created, runs.id) > (?2, ?3) AND runs.id <> ?1
                    ORDER BY runs.created, runs.id LIMIT {_PAGE}""",
                    (found.key, *last),
                ).fetchall()
                records = self._rows.runs(connection, rows)
            if not rows:
                return
            last = (rows[-1][1], rows[-1][0])
            yield from records

    def is_alive(self, owner: int) -> bool:
        """See `Reader.is_alive`."""
        return OwnerLocks.are_beside(self._path) and OwnerLocks.beside(self._path).is_alive(owner)

    def expired(self, *, age: float | None, count: int | None, size: int | None) -> list[UUID]:
        """See `Reader.expired`."""
        with self._reading() as connection:
            return [self._rows.id(connection, key) for key in list(expired_roots(connection, age, count, size))]

    def values_of(self, root: UUID) -> list[tuple[str, str]]:
        """See `Reader.values_of`."""
        with self._reading() as connection:
            found = find(connection, root)
            if found is None:
                return []
            return connection.execute(
                """SELECT DISTINCT words.word, mine.key
                FROM runs INDEXED BY runs_by_root
                CROSS JOIN results AS mine ON mine.run = runs.id
                CROSS JOIN words ON words.id = mine.url
                WHERE runs.root = ?1 AND mine.key IS NOT NULL AND NOT EXISTS (
                    SELECT 1 FROM results AS other CROSS JOIN runs AS elsewhere ON elsewhere.id = other.run
                    WHERE other.key = mine.key AND other.url = mine.url AND elsewhere.root <> ?1
                )""",
                (found.key,),
            ).fetchall()

    def facts(self) -> dict[str, Any]:
        """See `Reader.facts`."""
        with self._reading() as connection:
            kinds = dict(
                connection.execute(
                    """SELECT kind, sum((SELECT count(*) FROM runs WHERE definition = definitions.id))
                    FROM definitions GROUP BY kind"""
                ).fetchall()
            )
            recording = connection.execute("SELECT id FROM owners WHERE ended IS NULL AND lost IS NULL").fetchall()
            return {
                "database": f"SQLite {sqlite3.sqlite_version}",
                "schema": VERSION,
                "path": str(self._path),
                "bytes": _bytes_on_disk(self._path),
                "bytes_used": used_bytes(connection),
                "flow_runs": kinds.get(0, 0),
                "task_runs": kinds.get(1, 0),
                "processes": sum(self.is_alive(owner) for (owner,) in recording),
            }

    def close(self) -> None:
        """See `Reader.close`."""
        self._handle.close()

    def _runs(self, connection: sqlite3.Connection, keys: Iterable[int]) -> list[RunRecord]:
        rows = connection.execute(
            f"""SELECT {RUN} FROM json_each(?) AS wanted CROSS JOIN runs ON runs.id = wanted.value {JOINED}
            ORDER BY runs.created DESC, runs.id DESC""",
            (str(list(keys)),),  # a list of integers is a JSON document
        )
        return self._rows.runs(connection, rows.fetchall())

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection, None, None]:
        was_there = self._path.exists()
        try:
            with self._handle.use() as connection:
                connection.execute("BEGIN")  # all that is asked is answered from one state of the file
                yield connection
                connection.execute("COMMIT")
            if not was_there:
                self._handle.close()  # it was connected to nothing, which may be something by the next time
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(f"The history {self._path} could not be read: {error}.") from error


def _bytes_on_disk(path: Path) -> int:
    files = (path, Path(f"{path}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
