"""From the rows of SQLite to the records of a history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import orjson

from penstock_history.keys import COUNTER_BITS, to_uuid
from penstock_history.records import TYPES, RunRecord

__all__ = ("JOINED", "RUN", "Row", "Rows", "state_name")

Row = tuple[Any, ...]

RUN = """
    runs.id, runs.created, runs.parent, runs.root, definitions.kind, runs.name, definitions.name, runs.position,
    runs.tags, runs.sequence, runs.type, runs.state, runs.message, runs.started, runs.ended, runs.attempt,
    (SELECT word FROM words WHERE id = runs.worker), runs.seconds,
    flows.entrypoint, flows.parameters, coalesce(flows.code, (SELECT word FROM words WHERE id = results.code)),
    flows.version, flows.resumes,
    (SELECT word FROM words WHERE id = results.url), results.key, results.size,
    (SELECT word FROM words WHERE id = results.type), results.checksum, results.inputs, results.cached"""
"""What a `RunRecord` is made of, its key and its time first; the tables beside ``runs`` are those of `JOINED`."""

JOINED = """
    LEFT JOIN definitions ON definitions.id = runs.definition
    LEFT JOIN flows ON flows.run = runs.id
    LEFT JOIN results ON results.run = runs.id"""


def state_name(type_number: int, name: str | None) -> str:
    """What people call a state: the type's own name, unless it has another."""
    return name or TYPES[type_number].capitalize()


class Rows:
    """Makes records of rows; remembers the prefixes that it has met."""

    def __init__(self) -> None:
        self._prefixes: dict[int, tuple[bytes, int]] = {}

    def id(self, connection: sqlite3.Connection, key: int) -> UUID:
        """The id of the run with this key."""
        return to_uuid(self._prefix(connection, key)[0], key)

    def runs(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> list[RunRecord]:
        """Records of rows that `RUN` asked for."""
        return [self._run(connection, *row) for row in rows]

    def _run(
        self,
        connection: sqlite3.Connection,
        key: int,
        created: float,
        parent: int | None,
        root: int,
        kind: int,
        name: str,
        definition: str,
        position: int,
        tags: str | None,
        sequence: int,
        type_number: int,
        state: str | None,
        message: str | None,
        started: float | None,
        ended: float | None,
        attempts: int,
        worker: str | None,
        seconds: float | None,
        entrypoint: str | None,
        parameters: str | None,
        code: str | None,
        version: str | None,
        resumes: str | None,
        *result: Any,
    ) -> RunRecord:
        *stored, inputs, cached = result
        prefix, owner = self._prefix(connection, key)
        run_id = to_uuid(prefix, key)
        return RunRecord(
            id=run_id,
            kind="task" if kind else "flow",
            name=name,
            definition=definition,
            parent=None if parent is None else self.id(connection, parent),
            root=self.id(connection, root),
            position=position,
            state=state_name(type_number, state),
            type=TYPES[type_number],
            message=message,
            tags=() if tags is None else tuple(orjson.loads(tags)),
            created=created,
            started=started,
            ended=ended,
            sequence=sequence,
            attempts=attempts,
            worker=worker,
            seconds=seconds,
            owner=owner,
            entrypoint=entrypoint,
            parameters=parameters,
            code=code,
            version=version,
            resumes=None if resumes is None else UUID(resumes),
            resumed_by=None if kind else self._resumed_by(connection, run_id),
            result=dict(zip(_RESULT, stored, strict=True)) if stored[0] is not None else None,
            inputs=inputs,
            cached=bool(cached),
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


_RESULT = ("url", "key", "size", "type", "checksum")
"""The fields of `ResultReference.describe`."""
