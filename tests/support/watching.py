"""A database that lets a test look at each group before it is committed, or stand in its way."""

from __future__ import annotations

from collections.abc import Callable

from penstock_history.database import Database, Writer
from penstock_history.faults import InterceptedDatabase
from penstock_history.records import Group


class WatchedDatabase(InterceptedDatabase):
    """A real database; `look` is called with each group, may wait, and may raise what the database would raise."""

    def __init__(self, database: Database, look: Callable[[Group], None]) -> None:
        def write(writer: Writer, group: Group) -> None:
            look(group)
            writer.write(group)

        super().__init__(database, write)
