"""What users hold of a history: where it is, and what it says."""

from __future__ import annotations

import os
import threading  # noqa: TID251 (engines are made on many threads)
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

from penstock.errors import ConfigurationError, HistoryError, RunNotFound
from penstock.logging import engine_logger
from penstock.settings import home, settings
from penstock_history.database import Database, Durability
from penstock_history.recording.recorder import EngineView, Recorder
from penstock_history.records import UNFINISHED, AttemptRecord, LogRecord, RunQuery, RunRecord, StateRecord
from penstock_history.retention import Retention
from penstock_history.urls import open_database

__all__ = ("History", "durability_in")


class History:
    """A durable record of runs: hand it to an `Engine`, and ask it what happened.

    Reading needs no engine, does not disturb whoever writes, and works when that process is dead.

    Args:
        url: A path or ``sqlite:///path`` for a file, ``postgresql://user:password@host/name`` for a server, or a
            `Database`; by default what ``PENSTOCK_HISTORY`` names, or the file ``history.db`` in Penstock's home.
        durability: What survives. With ``"fast"`` a run whose value is stored is recorded before anybody is told that
            it has completed, so that it survives the end of the process, and the newest records are lost when the
            power fails; with ``"full"`` every run is recorded on the disk before anybody is told, and fails if that
            cannot be; with ``"none"`` nobody waits for anything. By default what ``PENSTOCK_DURABILITY`` says, or
            ``"fast"``.
        retention: How much of the past is kept, while an engine records here; by default what ``PENSTOCK_RETENTION``
            says, or all of it.

    Raises:
        ConfigurationError: If one of them cannot work.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Database | None = None,
        durability: Durability | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._database = _database_at(url)
        self.durability: Durability = durability or settings("durability", durability_in, "fast")
        durability_in(self.durability)
        self.retention: Retention | None = retention or settings("retention", Retention.parse, None)

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self._database.url

    @property
    def database(self) -> Database:
        """The database behind it."""
        return self._database

    def runs(self, query: RunQuery | None = None) -> list[RunRecord]:
        """List runs, newest first; by default the newest fifty flow runs.

        What processes that are dead left unfinished is marked as CRASHED first.
        """
        self.mark_the_dead()
        with closing(self._database.open_reader()) as reader:
            return reader.runs(query or RunQuery())

    def run(self, run_id: UUID | str) -> RunRecord:
        """One run.

        A run of this process is found as soon as it has begun: if it is not written yet, it is now. One that a dead
        process left unfinished is marked as CRASHED first.

        Raises:
            RunNotFound: If there is none with this id.
        """
        wanted = _uuid(run_id)
        with closing(self._database.open_reader()) as reader:
            found = reader.run(wanted)
            recorder = _recorders.get(self.url)
            if found is None and recorder is not None:
                recorder.flush(_PATIENCE)
                found = reader.run(wanted)
            if found is not None and found.type in UNFINISHED and not reader.is_alive(found.owner):
                self._reap()
                found = reader.run(wanted)
        if found is None:
            raise RunNotFound(f"The history {self.url} knows no run {run_id}.")
        return found

    def mark_the_dead(self) -> None:
        """Mark as CRASHED what processes that are dead left unfinished."""
        with closing(self._database.open_reader()) as reader:
            unfinished = reader.runs(RunQuery(kind=None, states=UNFINISHED, roots_only=True, limit=None))
            dead = any(not reader.is_alive(owner) for owner in {run.owner for run in unfinished})
        if dead:
            self._reap()

    def _reap(self) -> None:
        try:
            with closing(self._database.open_writer(self.durability)) as writer:
                writer.reap()
        except HistoryError as error:  # of somebody else, or on a disk that is only read: what is there can be shown
            engine_logger.warning("Runs of dead processes could not be marked as crashed: %s", error)

    def find(self, text: str) -> list[RunRecord]:
        """The runs that a person means: a full id, the beginning or end of one, or a run's name; newest first."""
        with closing(self._database.open_reader()) as reader:
            return reader.find(text)

    def states(self, run_id: UUID | str) -> list[StateRecord]:
        """A run's transitions, in order."""
        with closing(self._database.open_reader()) as reader:
            return reader.states(_uuid(run_id))

    def attempts(self, run_id: UUID | str) -> list[AttemptRecord]:
        """A run's attempts, in order."""
        with closing(self._database.open_reader()) as reader:
            return reader.attempts(_uuid(run_id))

    def inside(self, run_id: UUID | str) -> Iterator[RunRecord]:
        """All runs inside a root run, in the order in which they were made."""
        with closing(self._database.open_reader()) as reader:
            yield from reader.inside(_uuid(run_id))

    def logs(self, run_id: UUID | str) -> list[LogRecord]:
        """Log lines of a root run and of all runs inside it, in order."""
        with closing(self._database.open_reader()) as reader:
            return reader.logs(_uuid(run_id))

    def record(self, engine: EngineView) -> Recorder:
        """What records the runs of an engine here; one for each process and database, whoever asks.

        Raises:
            ConfigurationError: If the process records there already, with another durability or retention.
        """
        terms = self.durability, self.retention
        with _lock:
            recorder = _recorders.get(self.url)
            if recorder is None or (recorder.terms != terms and not recorder.is_used):
                recorder = _recorders[self.url] = Recorder(self._database, self.durability, self.retention)
        if recorder.terms != terms:
            raise ConfigurationError(
                f"This process records into {self.url} already, with {_say(*recorder.terms)}: use that, and not "
                f"{_say(*terms)}, or another history."
            )
        recorder.add(engine)
        return recorder

    def open(self, engine: EngineView) -> Recorder:
        """`record`, with the database open already; blocks until it is.

        Raises:
            HistoryError: If it cannot be opened.
        """
        recorder = self.record(engine)
        recorder.open(engine)
        return recorder

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, durability={self.durability!r})"


_PATIENCE = 10.0
"""Seconds that a run which has just begun may take to be written before it counts as unknown."""

_recorders: dict[str, Recorder] = {}
_lock = threading.Lock()


def _database_at(where: str | os.PathLike[str] | Database | None) -> Database:
    if where is None:
        named = settings("history", str, "none")
        return open_database(home() / "history.db" if named == "none" else named)
    return open_database(where) if isinstance(where, str | os.PathLike) else where


def durability_in(text: str) -> Durability:
    """Read a setting.

    Raises:
        ConfigurationError: If there is no such durability.
    """
    known: tuple[Durability, ...] = ("none", "fast", "full")
    for durability in known:
        if text == durability:
            return durability
    raise ConfigurationError(f"durability={text!r}: give 'none', 'fast' or 'full'.")


def _say(durability: Durability, retention: Retention | None) -> str:
    return f"durability={durability!r} and retention={retention!r}"


def _uuid(run_id: UUID | str) -> UUID:
    if isinstance(run_id, UUID):
        return run_id
    try:
        return UUID(run_id)
    except ValueError:
        raise RunNotFound(f"{run_id!r} is no run id; History.find finds runs by name and by parts of an id.") from None
