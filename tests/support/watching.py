"""A database that lets a test look at each group before it is committed, or stand in its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from penstock_history.database import Database, Durability, Reader, Writer
from penstock_history.records import Group, OwnerRecord


class WatchedDatabase:
    """A real database; `look` is called with each group, may wait, and may raise what the database would raise."""

    def __init__(self, database: Database, look: Callable[[Group], None]) -> None:
        self._database = database
        self._look = look

    @property
    def url(self) -> str:
        return self._database.url

    def open_writer(self, prefix: int, durability: Durability) -> Writer:
        return _WatchedWriter(self._database.open_writer(prefix, durability), self._look)

    def open_reader(self) -> Reader:
        return self._database.open_reader()

    def migrate(self) -> int:
        return self._database.migrate()


class _WatchedWriter:
    def __init__(self, writer: Writer, look: Callable[[Group], None]) -> None:
        self._writer = writer
        self._look = look

    @property
    def owner(self) -> OwnerRecord:
        return self._writer.owner

    def key_of(self, run_id: int) -> int:
        return self._writer.key_of(run_id)

    def write(self, group: Group) -> None:
        self._look(group)
        self._writer.write(group)

    def renew(self) -> None:
        self._writer.renew()

    def reap(self) -> Sequence[UUID]:
        return self._writer.reap()

    def ask_to_cancel(self, run_id: UUID) -> bool:
        return self._writer.ask_to_cancel(run_id)

    def to_cancel(self) -> Sequence[UUID]:
        return self._writer.to_cancel()

    def delete(self, roots: Sequence[UUID]) -> int:
        return self._writer.delete(roots)

    def compact(self) -> None:
        self._writer.compact()

    def close(self) -> None:
        self._writer.close()
