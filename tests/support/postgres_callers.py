"""What other processes do in the tests of a history in PostgreSQL."""

from __future__ import annotations

import os
import platform
import signal
from dataclasses import dataclass
from uuid import UUID

from penstock.errors import HistoryError
from penstock_history.database import Durability, Reader, Writer
from penstock_history.postgresql import owners as postgresql_owners
from penstock_history.postgresql.database import PostgreSQL
from penstock_history.testing.probes import Story

__all__ = ("OnHost", "begin_runs", "fork_and_go_on", "owner_of", "reap", "record_transitions")


@dataclass(frozen=True)
class OnHost:
    """The same database, from another machine."""

    database: PostgreSQL
    host: str

    @property
    def url(self) -> str:
        return self.database.url

    def open_writer(self, durability: Durability) -> Writer:
        platform.node = lambda: self.host
        postgresql_owners.here = lambda: self.host
        return self.database.open_writer(durability)

    def open_reader(self) -> Reader:
        return self.database.open_reader()

    def migrate(self) -> int:
        return self.database.migrate()


def begin_runs(writer: Writer, count: int) -> list[UUID]:
    """Record runs that go on."""
    story = Story(writer)
    runs = [story.begin() for _ in range(count)]
    story.write()
    return [run.id for run in runs]


def reap(writer: Writer) -> list[UUID]:
    return list(writer.reap())


def owner_of(writer: Writer) -> int:
    return writer.owner.id


def record_transitions(writer: Writer, runs: int, transitions: int) -> list[UUID]:
    """Record runs that make transitions one after the other, a group each; all but the last have rows of their own."""
    ids = []
    for _ in range(runs):
        story = Story(writer)
        run = story.begin(started=None, type="PENDING", state="Pending", sequence=1, attempts=0)
        story.write()
        for sequence in range(2, transitions):
            story.state(run, sequence, "RUNNING", f"Step {sequence}")
            story.end(run, "RUNNING", state=f"Step {sequence}", sequence=sequence, ended=None)
            story.write()
        story.end(run, sequence=transitions)
        story.write()
        ids.append(run.id)
    return ids


def fork_and_go_on(writer: Writer) -> tuple[int, str, list[UUID]]:
    """Fork a child that lives on; give its id, what it was told when it wrote, and what the parent recorded then."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            writer.renew()
        except HistoryError as error:
            os.write(writing, str(error).encode())
        os.close(writing)
        while True:
            signal.pause()
    os.close(writing)
    said = os.read(reading, 10_000).decode()
    return child, said, begin_runs(writer, 1)
