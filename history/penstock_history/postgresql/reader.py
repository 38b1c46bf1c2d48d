"""A read-only view of a history in PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from penstock.errors import HistoryError
from penstock_history.postgresql import owners
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.listing import list_runs
from penstock_history.postgresql.rows import JOINED, RUN, Rows
from penstock_history.postgresql.search import keys_that_fit
from penstock_history.postgresql.session import Session
from penstock_history.postgresql.size import expired_roots, facts, no_facts
from penstock_history.postgresql.tree import INSIDE, find
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

__all__ = ("PostgreSQLReader",)

T = TypeVar("T")

_PAGE = 2_000
"""Runs that are read at once where all are asked for."""

_Place = tuple[float, int]
"""Where a run stands among those of its root: the time at which it was made, and its key."""
_BEFORE_ALL: _Place = (float("-inf"), 0)

_NO_HISTORY = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)


class PostgreSQLReader:
    """See `penstock_history.database.Reader`.

    Args:
        session: A connection that only reads.
        url: Where the database is, without credentials.
    """

    def __init__(self, session: Session, url: str) -> None:
        self._session = session
        self._url = url
        self._rows = Rows()

    def runs(self, query: RunQuery) -> list[RunRecord]:
        """See `Reader.runs`."""

        async def read(connection: Connection) -> list[RunRecord]:
            return await self._rows.runs(connection, await list_runs(connection, query))

        return self._read(read, [])

    def run(self, run_id: UUID) -> RunRecord | None:
        """See `Reader.run`."""
        return self._read(lambda connection: self._run(connection, run_id), None)

    def find(self, text: str) -> list[RunRecord]:
        """See `Reader.find`."""

        async def read(connection: Connection) -> list[RunRecord]:
            return await self._runs(connection, await keys_that_fit(connection, text))

        return self._read(read, [])

    def states(self, run_id: UUID) -> list[StateRecord]:
        """See `Reader.states`."""

        async def read(connection: Connection) -> list[StateRecord]:
            run = await self._run(connection, run_id)
            found = await find(connection, run_id)
            if run is None or found is None:
                return []
            rows = await connection.fetch(
                """SELECT sequence, type, name, message, time, attempt, due, worker, seconds
                FROM penstock.states WHERE run = $1""",
                found.key,
            )
            return all_states(run, list(map(state_record, rows)))

        return self._read(read, [])

    def attempts(self, run_id: UUID) -> list[AttemptRecord]:
        """See `Reader.attempts`."""
        return all_attempts(self.states(run_id))

    def logs(self, root: UUID, after: int = 0, limit: int | None = None) -> list[LogRecord]:
        """See `Reader.logs`."""

        async def read(connection: Connection) -> list[LogRecord]:
            found = await find(connection, root)
            if found is None:
                return []
            within = f"(run = $4 OR run IN {INSIDE.format(root='$1', run='$4')})"
            rows = await connection.fetch(
                f"""SELECT id, run, time, level, logger, message FROM penstock.logs
                WHERE root = $1 AND id > $2 AND ($1 = $4 OR {within}) ORDER BY id LIMIT $3""",
                found.root,
                after,
                limit,
                found.key,
            )
            ids = await self._rows.ids(connection, (row["run"] for row in rows))
            return [LogRecord(number, run, *rest) for (number, _, *rest), run in zip(rows, ids, strict=True)]

        return self._read(read, [])

    def inside(self, root: UUID) -> Iterator[RunRecord]:
        """See `Reader.inside`."""
        records, last = self._page_after(root, _BEFORE_ALL)
        while records:
            yield from records
            records, last = self._page_after(root, last)

    def is_alive(self, owner: int) -> bool:
        """See `Reader.is_alive`."""
        return self._read(lambda connection: owners.is_alive(connection, owner), False)

    def expired(self, *, age: float | None, count: int | None, size: int | None) -> list[UUID]:
        """See `Reader.expired`."""

        async def read(connection: Connection) -> list[UUID]:
            return await self._rows.ids(connection, await expired_roots(connection, age, count, size))

        return self._read(read, [])

    def values_of(self, root: UUID) -> list[tuple[str, str]]:
        """See `Reader.values_of`."""

        async def read(connection: Connection) -> list[tuple[str, str]]:
            found = await find(connection, root)
            if found is None:
                return []
            rows = await connection.fetch(
                """SELECT DISTINCT mine.url, mine.key
                FROM penstock.runs JOIN penstock.results AS mine ON mine.run = runs.id
                WHERE runs.root = $1 AND mine.key IS NOT NULL AND NOT EXISTS (
                    SELECT 1 FROM penstock.results AS other JOIN penstock.runs AS elsewhere ON elsewhere.id = other.run
                    WHERE other.key = mine.key AND other.url = mine.url AND elsewhere.root <> $1
                )""",
                found.key,
            )
            return [(row["url"], row["key"]) for row in rows]

        return self._read(read, [])

    def facts(self) -> dict[str, Any]:
        """See `Reader.facts`."""
        return self._read(lambda connection: facts(connection, self._url), no_facts(self._url))

    def close(self) -> None:
        """See `Reader.close`."""
        self._session.close()

    def _read(self, work: Callable[[Connection], Awaitable[T]], nothing: T) -> T:
        """Read something; where there is no history yet, nothing is in it."""
        try:
            return self._session.call(work)
        except HistoryError as error:
            if isinstance(error.__cause__, _NO_HISTORY):
                return nothing
            raise

    def _page_after(self, root: UUID, last: _Place) -> tuple[list[RunRecord], _Place]:
        async def read(connection: Connection) -> tuple[list[RunRecord], _Place]:
            found = await find(connection, root)
            if found is None:
                return [], last
            rows = await connection.fetch(
                f"""SELECT {RUN} FROM penstock.runs {JOINED}
                WHERE runs.root = $1 AND (runs.created, runs.id) > ($2, $3) AND runs.id <> $1
                ORDER BY runs.created, runs.id LIMIT {_PAGE}""",
                found.key,
                *last,
            )
            records = await self._rows.runs(connection, rows)
            return records, (rows[-1]["created"], rows[-1]["id"]) if rows else last

        return self._read(read, (list[RunRecord](), last))

    async def _run(self, connection: Connection, run_id: UUID) -> RunRecord | None:
        found = await find(connection, run_id)
        return None if found is None else (await self._runs(connection, [found.key]))[0]

    async def _runs(self, connection: Connection, keys: list[int]) -> list[RunRecord]:
        rows = await connection.fetch(
            f"""SELECT {RUN} FROM penstock.runs {JOINED} WHERE runs.id = ANY($1::bigint[])
            ORDER BY runs.created DESC, runs.id DESC""",
            keys,
        )
        return await self._rows.runs(connection, rows)
