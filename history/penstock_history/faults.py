"""Places where a test has the process die, and a database that fails when a test says so.

A point is a name that the code reaches, again and again. With ``PENSTOCK_DIE_AT=name`` in the environment the process
kills itself where it reaches the name first, with ``PENSTOCK_DIE_AT=name:3`` the third time. Without it a point costs
less than a tenth of a microsecond, and the hot path of a run has none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Literal

from penstock.errors import HistoryWriteError
from penstock_history.database import Database, Durability, Reader, Writer
from penstock_history.records import Group, OwnerRecord

__all__ = ("Fault", "FaultyDatabase", "InterceptedDatabase", "point")

_name, _, _count = os.environ.get("PENSTOCK_DIE_AT", "").partition(":")
_left = int(_count or 1)


def point(name: str) -> None:
    """Die here, if that is what the environment says."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


Fault = Literal["fail_before", "fail_after"]
"""What goes wrong with a write: it fails and nothing is written, or all is written and only the answer is lost."""


class InterceptedDatabase:
    """A database whose groups somebody else writes; all else about it is real.

    Args:
        database: The real one.
        write: Called instead of `Writer.write`, with the real writer and the group.
    """

    def __init__(self, database: Database, write: Callable[[Writer, Group], None]) -> None:
        self._database = database
        self._write = write

    @property
    def url(self) -> str:
        """See `Database.url`."""
        return self._database.url

    def open_writer(self, durability: Durability) -> Writer:
        """See `Database.open_writer`."""
        return _InterceptedWriter(self._database.open_writer(durability), self._write)

    def open_reader(self) -> Reader:
        """See `Database.open_reader`."""
        return self._database.open_reader()

    def migrate(self) -> int:
        """See `Database.migrate`."""
        return self._database.migrate()


class FaultyDatabase(InterceptedDatabase):
    """A database whose writes fail as planned.

    Args:
        database: The real one.
        plan: A fault or None for each write in turn, of all its writers; after its end nothing fails.
    """

    def __init__(self, database: Database, plan: Iterator[Fault | None]) -> None:
        super().__init__(database, self._fail_as_planned)
        self._plan = plan

    def _fail_as_planned(self, writer: Writer, group: Group) -> None:
        fault = next(self._plan, None)
        if fault == "fail_before":
            raise HistoryWriteError("sabotage, before the write")
        writer.write(group)
        if fault == "fail_after":
            raise HistoryWriteError("sabotage, after the write")


class _InterceptedWriter:
    def __init__(self, writer: Writer, write: Callable[[Writer, Group], None]) -> None:
        self._writer = writer
        self._write = write
        self.key_of = writer.key_of
        self.renew = writer.renew
        self.close = writer.close
        self.compact = writer.compact
        self.reap = writer.reap
        self.ask_to_cancel = writer.ask_to_cancel
        self.to_cancel = writer.to_cancel
        self.delete = writer.delete

    @property
    def owner(self) -> OwnerRecord:
        return self._writer.owner

    def write(self, group: Group) -> None:
        self._write(self._writer, group)
