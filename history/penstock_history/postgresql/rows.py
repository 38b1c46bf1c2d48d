"""Which columns of PostgreSQL's tables a run's record is made of, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from penstock_history.keys import COUNTER_BITS, to_uuid
from penstock_history.postgresql.connection import Connection, Record
from penstock_history.records import RunRecord
from penstock_history.rows import run_record

__all__ = ("JOINED", "RUN", "Rows")

RUN = """
    runs.id, runs.created, runs.parent, runs.root, runs.kind, runs.name, runs.definition, runs.position, runs.tags,
    runs.sequence, runs.type, runs.state, runs.message, runs.started, runs.ended, runs.attempt, runs.worker,
    runs.seconds,
    flows.entrypoint, flows.parameters, coalesce(flows.code, results.code), flows.version, flows.resumes,
    results.url, results.key, results.size, results.type, results.checksum, results.inputs, results.cached"""
"""What `rows.run_record` takes; the tables beside ``runs`` are those of `JOINED`."""

JOINED = "LEFT JOIN penstock.flows ON flows.run = runs.id LEFT JOIN penstock.results ON results.run = runs.id"


class Rows:
    """Makes records of rows; remembers the prefixes that it has met."""

    def __init__(self) -> None:
        self._prefixes: dict[int, tuple[bytes, int]] = {}

    async def ids(self, connection: Connection, keys: Iterable[int]) -> list[UUID]:
        """The ids of the runs with these keys."""
        keys = list(keys)
        await self._meet(connection, keys)
        return list(map(self._id, keys))

    async def runs(self, connection: Connection, rows: Sequence[Record]) -> list[RunRecord]:
        """Records of rows that `RUN` asked for."""
        await self._meet(connection, (row[column] for row in rows for column in ("id", "parent", "root")))
        resumed = await self._resumed(connection, [str(self._id(row["id"])) for row in rows if row["kind"] == 0])
        return [self._run(row, resumed.get(str(self._id(row["id"])))) for row in rows]

    def _run(self, row: Record, resumed_by: UUID | None) -> RunRecord:
        _, owner = self._prefixes[row["id"] >> COUNTER_BITS]
        return run_record(tuple(row), row["tags"], self._id, owner, resumed_by)

    async def _resumed(self, connection: Connection, runs: Sequence[str]) -> dict[str, UUID]:
        """Which runs continue some flow runs."""
        rows = await connection.fetch("SELECT resumes, run FROM penstock.flows WHERE resumes = ANY($1)", runs)
        ids = await self.ids(connection, (row["run"] for row in rows))
        return dict(zip((row["resumes"] for row in rows), ids, strict=True))

    async def _meet(self, connection: Connection, keys: Iterable[int | None]) -> None:
        """Ask for the prefixes that are new."""
        numbers = {key >> COUNTER_BITS for key in keys if key is not None}
        if new := numbers - self._prefixes.keys():
            rows = await connection.fetch(
                "SELECT number, prefix, owner FROM penstock.prefixes WHERE number = ANY($1)", list(new)
            )
            self._prefixes.update((row["number"], (row["prefix"], row["owner"])) for row in rows)

    def _id(self, key: int) -> UUID:
        return to_uuid(self._prefixes[key >> COUNTER_BITS][0], key)
