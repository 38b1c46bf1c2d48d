"""Engines that record, in a database that lets a test look at each group before it is committed, or stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock import Engine
from penstock.history import History, RunQuery, RunRecord
from penstock.runners import ThreadPoolTaskRunner
from penstock_history.database import Database, Durability, Writer
from penstock_history.faults import InterceptedDatabase
from penstock_history.records import Group


class WatchedDatabase(InterceptedDatabase):
    """A real database; `look` is called with each group, may wait, and may raise what the database would raise."""

    def __init__(self, database: Database, look: Callable[[Group], None]) -> None:
        def write(writer: Writer, group: Group) -> None:
            look(group)
            writer.write(group)

        super().__init__(database, write)


def watched(path: Path, look: Callable[[Group], None], durability: Durability = "full") -> History:
    return History(WatchedDatabase(History(path).database, look), durability)


@contextmanager
def recording(history: History) -> Iterator[Engine]:
    """An engine that records there, with two threads."""
    with Engine(ThreadPoolTaskRunner(max_workers=2), history=history) as engine:
        yield engine


def newest(history: History) -> RunRecord:
    return history.runs(RunQuery(roots_only=True, kind=None))[0]
