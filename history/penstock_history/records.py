"""What a history keeps: the rows that are written, and the records that come out again.

Inside, a run is an integer: the number of its id's prefix, which all ids of one process share, times 2^40, plus the
id's counter (`penstock.names`). Outside it is a UUID. So no row carries sixteen bytes for what eight say, and no index
but the primary key is needed to find a run by its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

__all__ = (
    "AttemptRecord",
    "Group",
    "LogRecord",
    "OwnerRecord",
    "RunQuery",
    "RunRecord",
    "StateRecord",
)

Kind = Literal["flow", "task"]


@dataclass(slots=True)
class Group:
    """What is committed together: plain JSON types only, since it travels to the database as one JSON document.

    A database takes the document apart itself (``json_each``), in one statement for each list: the interpreter's lock
    is let go once for a thousand rows. With a statement for each row, a busy program would lend the writer its lock two
    hundred times a second, and no history could keep up with it.

    Rows are dictionaries with the names of the columns; what is absent is NULL.

    Attributes:
        runs: New runs: ``id``, ``parent``, ``root`` (of a root: itself), ``kind``, ``name``, ``definition``,
            ``position`` (which of its siblings of the same definition it is, from 0), ``tags`` (a list), ``created``,
            and for root flow runs ``entrypoint`` (``"path/or/module:qualname"``), ``parameters`` (JSON, or a stored
            reference), ``code`` (a digest), ``resumes`` (the run that it continues), ``version``.
        states: Transitions: ``run``, ``sequence`` (from 1), ``type``, ``name``, ``message``, ``time`` (seconds since
            the epoch), ``attempt``, ``due`` (when a delayed attempt is to begin).
        attempts: Attempts that ended: ``run``, ``number``, ``started``, ``ended``, ``worker``, ``error`` (text).
        results: Stored values of COMPLETED runs: ``run``, ``url``, ``key``, ``size``, ``type``, ``checksum``,
            ``inputs`` (a digest of the arguments), ``code`` (a digest of the task), ``cached``
            (it was found, not made).
        logs: Log lines: ``run``, ``time``, ``level``, ``logger``, ``message``.
    """

    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    states: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    results: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    logs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __bool__(self) -> bool:
        return bool(self.runs or self.states or self.attempts or self.results or self.logs)


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """A process that records.

    Attributes:
        id: Its number in this history.
        prefix: What the ids of its runs have in common: the id with the counter's 46 bits cleared.
        pid: Its process id.
        host: Its machine.
        started: When it began to record, seconds since the epoch.
        lost: When somebody found it dead, or None. It must not write any more.
    """

    id: int
    prefix: int
    pid: int
    host: str
    started: float
    lost: float | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A flow or task run as it was recorded.

    Attributes:
        id: The run's id.
        kind: Whether it is a flow run or a task run.
        name: What people call it.
        definition: The name of the flow or task.
        parent: The run inside which it ran, or None.
        root: The outermost run around it; itself if there is none.
        position: Which of its siblings of the same definition it is, from 0.
        state: The name of its last recorded state.
        type: That state's type, a value of `StateType`.
        message: That state's message.
        tags: Its tags.
        created: When it was made, seconds since the epoch.
        started: When it was first RUNNING, or None.
        ended: When it took its terminal state, or None.
        attempts: How many attempts have begun.
        owner: The process that ran it.
        entrypoint: Where its flow is found, for a root flow run.
        parameters: Its flow's parameters as JSON text, or None if they were not recorded.
        code: A digest of its code.
        resumes: The run that it continues.
        resumed_by: The run that continues it.
        result: Its stored value, as `ResultReference.describe` gives it.
        inputs: A digest of its arguments.
        cached: Whether its value was found and not made.
    """

    id: UUID
    kind: Kind
    name: str
    definition: str
    parent: UUID | None
    root: UUID
    position: int
    state: str
    type: str
    message: str | None
    tags: Sequence[str]
    created: float
    started: float | None
    ended: float | None
    attempts: int
    owner: int
    entrypoint: str | None = None
    parameters: str | None = None
    code: str | None = None
    version: str | None = None
    resumes: UUID | None = None
    resumed_by: UUID | None = None
    result: Mapping[str, Any] | None = None
    inputs: str | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class StateRecord:
    """One transition of one run; see `Group.states` for the fields."""

    sequence: int
    type: str
    name: str
    message: str | None
    time: float
    attempt: int
    due: float | None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt that ended; see `Group.attempts` for the fields."""

    number: int
    started: float
    ended: float
    worker: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line; ``id`` grows with every line of the history, so that a reader can ask for what is new."""

    id: int
    run: UUID
    time: float
    level: int
    logger: str
    message: str


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to list, newest first.

    Attributes:
        kind: Flow runs or task runs; None for both.
        states: Names or types of states, in any case; empty for all.
        definition: The name of a flow or task.
        tag: A tag that the run has.
        since: Created at or after, seconds since the epoch.
        parent: Runs inside this one, directly.
        root: Runs inside this one, however deep.
        name: The run's name.
        roots_only: Only runs that no other run is around.
        limit: How many at most; None for all.
    """

    kind: Kind | None = "flow"
    states: Sequence[str] = ()
    definition: str | None = None
    tag: str | None = None
    since: float | None = None
    parent: UUID | None = None
    root: UUID | None = None
    name: str | None = None
    roots_only: bool = False
    limit: int | None = 50
