"""What is recorded of one run, as it changes.

A run's life is a small record beside the run that holds neither the run nor its value. The run's own thread changes it,
the writer reads it when it gets round to it: a task that is over by then costs one row, and a run that changes faster
than anything can be written costs no more than one that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penstock.errors import HistoryError
from penstock.identity import Kept
from penstock.states import StateType
from penstock_history.records import TYPES, Row

__all__ = (
    "BORN",
    "COMPLETED",
    "FLOW",
    "NUMBERS",
    "RUNNING",
    "SCHEDULED",
    "TASK",
    "UNRECORDED",
    "Life",
    "More",
    "Progress",
    "result_row",
    "short",
)

NUMBERS = {StateType(name): number for number, name in enumerate(TYPES)}
SCHEDULED, PENDING, RUNNING, COMPLETED = (
    NUMBERS[state] for state in (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED)
)

FLOW, TASK = 0, 1
"""The kinds of runs by their numbers inside."""

_LONGEST = 10_000
"""Characters of a message that are kept: more than anybody reads, and no exception with a file in it fills the disk."""

Progress = tuple[int, int, str | None, str | None, float | None, float | None, int, str | None, float | None]
"""The columns of `records.CHANGES` from ``sequence`` to ``seconds``."""

Birth = tuple[int, int | None, int, int, str, int, list[str] | None, float | None]
"""The ids of the run, its parent and its root as integers, 0 for a flow run and 1 for a task run, the name of its
definition, its position among its siblings of the same definition, its tags, and when it took its first state."""

BEFORE: Progress = (0, PENDING, None, None, None, None, 0, None, None)
"""Before a run's first transition."""

BORN: Progress = (1, PENDING, None, None, None, None, 0, None, None)
"""After it, as it nearly always is."""


class Life:
    """What is recorded of one run.

    Attributes:
        birth: What never changes.
        name: What people call the run; None where it is made of the definition's name and the id.
        now: What the run is. Always replaced as a whole, so that whoever reads it meanwhile gets one or the other.
        queued: Whether the writer has been told that there is something new.
        written: Whether the run's row is in the database.
        more: What few runs have.
    """

    __slots__ = ("birth", "more", "name", "now", "queued", "written")

    def __init__(self, birth: Birth, name: str | None) -> None:
        self.birth = birth
        self.name = name
        self.now = BEFORE
        self.queued = False
        self.written = False
        self.more: More | None = None

    def go_on(
        self,
        kind: int,
        name: str | None,
        message: str | None,
        time: float | None,
        attempt: int,
        worker: str | None,
        seconds: float | None,
    ) -> Row | None:
        """Take a transition.

        Args:
            kind: The number of its type.
            name: Its name, or None for the type's own.
            message: Its message.
            time: When it was taken.
            attempt: How many attempts have begun.
            worker: Who executed the latest one, or None.
            seconds: How long its function took there.

        Returns:
            The transition, if it needs a row of its own (see `records.Group`): the columns of `records.STATES` from
            ``sequence`` on, but for ``due``.
        """
        sequence, before, _, _, started, _, _, _, _ = self.now
        if before >= COMPLETED:
            return None
        sequence += 1
        if message is not None:
            message = short(message)
        if kind >= COMPLETED:
            self.now = (sequence, kind, name, message, started, time, attempt, worker, seconds)
            return None
        if kind == RUNNING and started is None:
            started = time
        self.now = (sequence, kind, name, message, started, None, attempt, worker, seconds)
        if name is None and message is None and kind == sequence and attempt == sequence - 1:
            return None  # PENDING comes first and RUNNING second
        return sequence, kind, name, message, time, attempt, worker, seconds

    def row(self, key_of: Callable[[int], int], keys: Mapping[int | None, int | None]) -> Row:
        """The run's row, as it is new to the database; see `records.RUNS`.

        Args:
            key_of: Gives the key of a run.
            keys: The keys of runs that many runs have in common.
        """
        id, parent, root, kind, definition, *rest = self.birth  # noqa: A001 (the column's name)
        name = self.name or f"{definition}-{id % 4096:03x}"
        return (key_of(id), keys[parent], keys[root], kind, name, definition, *rest, *self.now)

    def change(self, key_of: Callable[[int], int]) -> Row:
        """What has become of a run that is in the database; see `records.CHANGES`.

        Args:
            key_of: Gives the key of a run.
        """
        more = self.more
        return (key_of(self.birth[0]), *self.now, self.name if more is not None and more.renamed else None)

    @property
    def rare(self) -> More:
        """`more`, made when it is first needed."""
        self.more = more = self.more or More()
        return more


class More:
    """What few runs have.

    Attributes:
        named: Whether the run has its name; one that is made of parameters has to wait for them.
        renamed: Whether the name may be news to the database.
        flow: What `records.FLOWS` says after ``run``, until it is written.
        result: What `records.RESULTS` says after ``run``, until it is written.
        refusal: Why there can be no such run, if the database said so.
    """

    __slots__ = ("flow", "named", "refusal", "renamed", "result")

    def __init__(self) -> None:
        self.named = True
        self.renamed = False
        self.flow: Row | None = None
        self.result: Row | None = None
        self.refusal: HistoryError | None = None


UNRECORDED = Life((0, None, 0, 0, "", 0, None, 0.0), None)
"""The life of all runs that are not recorded, because there was no room for them when they began."""
UNRECORDED.queued = True


def result_row(kept: Kept) -> Row:
    """What `records.RESULTS` says after ``run``."""
    at = kept.reference
    return (at.url, at.key, at.size, at.type, at.checksum, kept.identity, kept.code, int(kept.found))


def short(message: str) -> str:
    """A message without what nobody reads."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}... ({len(message)} characters)"
