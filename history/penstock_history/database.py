"""What a database has to do to keep a history: the protocol that SQLite and PostgreSQL meet.

A process has one `Writer`, used by one thread, and any number of `Reader`s. A writer's `write` is one transaction;
when it returns, the group is committed, and with ``durability="full"`` it is on the disk. Readers never write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol
from uuid import UUID

from penstock_history.records import (
    AttemptRecord,
    Group,
    LogRecord,
    OwnerRecord,
    RunQuery,
    RunRecord,
    StateRecord,
)

__all__ = ("Database", "Durability", "Reader", "Writer")

Durability = Literal["none", "fast", "full"]
"""What survives: ``none`` records without waiting for any disk, ``fast`` loses the newest commits when the power fails
and nothing when the process is killed, ``full`` nothing that was acknowledged."""


class Writer(Protocol):
    """The one connection of a process that writes. Used by one thread; every method is one transaction."""

    @property
    def owner(self) -> OwnerRecord:
        """This process, as it was registered when the writer was opened."""
        ...

    def key_of(self, run_id: int) -> int:
        """The integer by which the tables know a run, from its id as an integer; remembers a prefix that is new."""
        ...

    def write(self, group: Group) -> None:
        """Commit a group.

        Writing the same row again changes nothing, so that a group whose commit was not heard of can be repeated.

        Raises:
            OwnerLost: If somebody has found this process dead meanwhile; nothing was written, and it must stop.
            HistoryWriteError: If the database cannot take it (full, unreachable, read-only); nothing was written.
            ResumeConflict: If another run already continues the run that a new one ``resumes``.
        """
        ...

    def renew(self) -> None:
        """Say that this process is alive, where the database cannot see it for itself."""
        ...

    def reap(self) -> Sequence[UUID]:
        """Mark what processes that are dead left unfinished as CRASHED (owner_lost).

        Returns:
            The root runs that were marked.
        """
        ...

    def ask_to_cancel(self, run_id: UUID) -> bool:
        """Ask the process that owns a run to cancel it; False if there is no such run, or it has ended."""
        ...

    def to_cancel(self) -> Sequence[UUID]:
        """The runs of this process that others have asked to cancel; each is told once.

        Raises:
            HistoryWriteError: If the database cannot be asked.
        """
        ...

    def delete(self, roots: Sequence[UUID]) -> int:
        """Delete root runs that have ended, with all that is inside them; gives how many runs went."""
        ...

    def compact(self) -> None:
        """Give the space of what was deleted back to the file system."""
        ...

    def close(self) -> None:
        """Let go of the connection and of this process's claim to be alive."""
        ...


class Reader(Protocol):
    """A read-only view. May be used by one thread at a time."""

    def runs(self, query: RunQuery) -> list[RunRecord]:
        """List runs, newest first."""
        ...

    def run(self, run_id: UUID) -> RunRecord | None:
        """One run, or None."""
        ...

    def find(self, text: str) -> list[RunRecord]:
        """The runs that a person means: a full id, the beginning or end of one, or a run's name; newest first."""
        ...

    def states(self, run_id: UUID) -> list[StateRecord]:
        """A run's transitions, in order."""
        ...

    def attempts(self, run_id: UUID) -> list[AttemptRecord]:
        """A run's attempts, in order; the last may still go on."""
        ...

    def logs(self, root: UUID, after: int = 0, limit: int | None = None) -> list[LogRecord]:
        """Log lines of a run and of all runs inside it, in order, those with an id above ``after``."""
        ...

    def inside(self, root: UUID) -> Iterator[RunRecord]:
        """All runs inside a root run, in the order in which they were made."""
        ...

    def is_alive(self, owner: int) -> bool:
        """Whether the process with this number still runs."""
        ...

    def expired(self, *, age: float | None, count: int | None, size: int | None) -> list[UUID]:
        """The root runs that are too old (seconds), too many, or too much (bytes); oldest first."""
        ...

    def values_of(self, root: UUID) -> list[tuple[str, str]]:
        """Where values are stored that belong to a root run and to no other.

        They are those that its runs and those inside have made or found, but for the ones that a run of another root
        refers to as well, because it found them in the cache or continues this one.

        Returns:
            The store and the key of each.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What there is to say about the history: version, size, counts, where it lies."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Database(Protocol):
    """A place that keeps a history."""

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        ...

    def open_writer(self, durability: Durability) -> Writer:
        """Open the process's one writer, bringing the schema up to date first.

        Args:
            durability: When a commit counts.

        Raises:
            HistoryError: If there can be no history here: a network file system, a schema from the future, no server.
        """
        ...

    def open_reader(self) -> Reader:
        """Open a read-only view; a history that does not exist yet is empty.

        Raises:
            HistoryError: If it cannot be read.
        """
        ...

    def migrate(self) -> int:
        """Bring the schema up to date, safely under kill, and give its version."""
        ...
