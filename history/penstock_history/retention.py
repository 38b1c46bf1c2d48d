"""Parting with the past: runs that are too old, too many or too much go, with all that is known of them.

A run's stored values are deleted first and its rows last. So what is interrupted is found and done again the next time,
and a run that is still listed may have lost its values, but no value is left that nobody knows of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Protocol
from uuid import UUID

from penstock.errors import ConfigurationError, ResultError, ResultMissing
from penstock.logging import engine_logger
from penstock.quantities import bytes_in, seconds_in
from penstock.wiring import open_store
from penstock_history.database import Database, Reader, Writer

__all__ = ("Deleted", "Deletes", "Retention", "delete_runs", "part_with_the_past", "sweep")

_AT_ONCE = 100
"""Root runs after whose deletion it is asked again what is too much."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of the past is kept. Runs that go on are never parted with.

    Args:
        age: How long ago a root run may have ended.
        count: How many ended root runs there may be.
        size: How many bytes the history may take, without the values that it refers to.

    Raises:
        ConfigurationError: If one of them is negative.
    """

    age: timedelta | None = None
    count: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        limits = {"age": self._seconds, "count": self.count, "size": self.size}
        for name, limit in limits.items():
            if limit is not None and limit < 0:
                raise ConfigurationError(f"Retention({name}={getattr(self, name)!r}): give nothing, 0 or more")

    @classmethod
    def parse(cls, text: str) -> Retention:
        """Read a setting: an age, a number of runs, a size, or several of them, as in ``30d 10000 2GB``.

        Raises:
            ValueError: If a word is none of these.
        """
        limits: dict[str, timedelta | int] = {}
        for word in text.split():
            if word.isdecimal():
                limits["count"] = int(word)
            elif word[-1] in "bB":
                limits["size"] = bytes_in(word)
            else:
                limits["age"] = timedelta(seconds=seconds_in(word))
        return cls(**limits)  # type: ignore[arg-type]

    def expired(self, reader: Reader) -> list[UUID]:
        """The root runs to part with, oldest first."""
        return reader.expired(age=self._seconds, count=self.count, size=self.size)

    @property
    def _seconds(self) -> float | None:
        return None if self.age is None else self.age.total_seconds()


class Deletes(Protocol):
    """What deletes rows: a `Writer`, or what has one."""

    def delete(self, roots: Sequence[UUID]) -> int:
        """See `Writer.delete`."""
        ...


@dataclass(frozen=True, slots=True)
class Deleted:
    """What went.

    Attributes:
        runs: How many runs, with those inside them.
        values: How many stored values.
    """

    runs: int = 0
    values: int = 0

    def __add__(self, other: Deleted) -> Deleted:
        return Deleted(self.runs + other.runs, self.values + other.values)


def delete_runs(reader: Reader, writer: Writer, roots: Iterable[UUID]) -> Deleted:
    """Delete root runs that have ended, with what is inside them, their logs, and the values that are theirs alone.

    Args:
        reader: Finds the values.
        writer: Deletes the rows.
        roots: The runs. Those that go on, or that are not there, are left alone.

    Raises:
        ResultError: If a value could not be deleted; all the runs are still there.
        HistoryError: If the history could not be read or written.
    """
    ended = [root for root in roots if _has_ended(reader, root)]
    values = sum(_delete_values(reader, root) for root in ended)
    return Deleted(writer.delete(ended), values)


def sweep(database: Database, retention: Retention) -> Deleted:
    """`part_with_the_past`, and give the space back.

    Args:
        database: The history.
        retention: How much is kept.

    Raises:
        HistoryError: If the history could not be read or written.
    """
    with closing(database.open_reader()) as reader, closing(database.open_writer("fast")) as writer:
        deleted = sum(part_with_the_past(reader, writer, retention), Deleted())
        if deleted.runs:
            writer.compact()
    return deleted


def part_with_the_past(reader: Reader, writer: Deletes, retention: Retention) -> Iterator[Deleted]:
    """Delete what is too old, too many or too much, a root run at a time, so that whoever asks can stop in between.

    A run whose values cannot be deleted now is kept, and named in a warning.
    """
    seen = set[UUID]()
    while doomed := list(islice((root for root in retention.expired(reader) if root not in seen), _AT_ONCE)):
        seen.update(doomed)
        for root in doomed:
            yield _delete_if_it_can_be(reader, writer, root)


def _delete_if_it_can_be(reader: Reader, writer: Deletes, root: UUID) -> Deleted:
    try:
        values = _delete_values(reader, root)
    except ResultError as error:
        engine_logger.warning("The run %s is kept, because a value of it could not be deleted: %s", root, error)
        return Deleted()
    return Deleted(writer.delete([root]), values)


def _has_ended(reader: Reader, root: UUID) -> bool:
    run = reader.run(root)
    return run is not None and run.parent is None and run.ended is not None


def _delete_values(reader: Reader, root: UUID) -> int:
    return sum(_delete_value(url, key) for url, key in reader.values_of(root))


def _delete_value(url: str, key: str) -> int:
    try:
        open_store(url).delete(key)
    except ResultMissing:  # an earlier try, or the store's own housekeeping, was here
        return 0
    return 1
