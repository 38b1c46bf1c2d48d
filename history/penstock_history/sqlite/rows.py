"""From the rows of SQLite to the records of a history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from functools import partial
from uuid import UUID

import orjson

from penstock_history.keys import COUNTER_BITS, to_uuid
from penstock_history.records import Row, RunRecord
from penstock_history.rows import run_record

__all__ = ("JOINED", "RUN", "Rows")

RUN = """
    runs.id, runs.created, runs.parent, runs.root, definitions.kind, runs.name, definitions.name, runs.position,
    runs.tags, runs.sequence, runs.type, runs.state, runs.message, runs.started, runs.ended, runs.attempt,
    (SELECT word FROM words WHERE id = runs.worker), runs.seconds,
    flows.entrypoint, flows.parameters, coalesce(flows.code, (SELECT word FROM words WHERE id = results.code)),
    flows.version, flows.resumes,
    (SELECT word FROM words WHERE id = results.url), results.key, results.size,
    (SELECT word FROM words WHERE id = results.type), results.checksum, results.inputs, results.cached"""
"""What `rows.run_record` takes; the tables beside ``runs`` are those of `JOINED`."""

JOINED = """
    LEFT JOIN definitions ON definitions.id = runs.definition
    LEFT JOIN flows ON flows.run = runs.id
    LEFT JOIN results ON results.run = runs.id"""


class Rows:
    """Makes records of rows; remembers the prefixes that it has met."""

    def __init__(self) -> None:
        self._prefixes: dict[int, tuple[bytes, int]] = {}

    def id(self, connection: sqlite3.Connection, key: int) -> UUID:
        """The id of the run with this key."""
        return to_uuid(self._prefix(connection, key)[0], key)

    def runs(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> list[RunRecord]:
        """Records of rows that `RUN` asked for."""
        return [self._run(connection, row) for row in rows]

    def _run(self, connection: sqlite3.Connection, row: Row) -> RunRecord:
        key, kind, tags = row[0], row[4], row[8]
        prefix, owner = self._prefix(connection, key)
        return run_record(
            row,
            orjson.loads(tags) if tags else None,
            partial(self.id, connection),
            owner,
            None if kind else self._resumed_by(connection, to_uuid(prefix, key)),
        )

    def _resumed_by(self, connection: sqlite3.Connection, run_id: UUID) -> UUID | None:
        row = connection.execute("SELECT run FROM flows WHERE resumes = ?", (str(run_id),)).fetchone()
        return None if row is None else self.id(connection, row[0])

    def _prefix(self, connection: sqlite3.Connection, key: int) -> tuple[bytes, int]:
        number = key >> COUNTER_BITS
        known = self._prefixes.get(number)
        if known is None:
            known = connection.execute("SELECT prefix, owner FROM prefixes WHERE number = ?", (number,)).fetchone()
            self._prefixes[number] = known
        return known
