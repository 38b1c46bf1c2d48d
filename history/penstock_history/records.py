"""What a history keeps: the rows that are written, and the records that come out again.

Inside, a run is an integer (`keys`), outside it is a UUID. So no row carries sixteen bytes for what eight say, and no
index but the primary key is needed to find a run by its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal
from uuid import UUID

__all__ = (
    "CHANGES",
    "FLOWS",
    "LOGS",
    "RESULTS",
    "RUNS",
    "STATES",
    "TYPES",
    "UNFINISHED",
    "AttemptRecord",
    "Group",
    "LogRecord",
    "OwnerRecord",
    "Row",
    "RunQuery",
    "RunRecord",
    "StateRecord",
    "all_attempts",
    "all_states",
)

Kind = Literal["flow", "task"]


Row = tuple[Any, ...]
"""A row on its way to the database: plain JSON types, in the order of the columns that its list is described with."""

RUNS = (
    "id", "parent", "root", "kind", "name", "definition", "position", "tags", "created",
    "sequence", "type", "state", "message", "started", "ended", "attempt", "worker", "seconds",
)  # fmt: skip
"""The columns of `Group.runs`. ``root`` of a root is itself; ``kind`` is 0 for a flow run and 1 for a task run;
``position`` says which of its siblings of the same definition it is, from 0; ``tags`` is a list, or NULL for none;
from ``sequence`` on they are those of `CHANGES`, but for the name."""

CHANGES = ("run", "sequence", "type", "state", "message", "started", "ended", "attempt", "worker", "seconds", "name")
"""The columns of `Group.changes`: the number of a run's latest transition, the number of its type (`TYPES`), its name
(NULL for the type's own) and message; when the run was first RUNNING and when it ended (NULL leaves what is there); how
many attempts have begun; who executed the latest, and how many seconds its function took there (NULL in place); and the
run's name if only now its parameters are known that it is made of (NULL leaves what is there)."""

STATES = ("run", "sequence", "type", "name", "message", "time", "attempt", "due", "worker", "seconds")
"""The columns of `Group.states`: a transition; ``due`` is when a delayed attempt is to begin, ``worker`` and
``seconds`` are of the attempt that the transition ended."""

FLOWS = ("run", "entrypoint", "parameters", "code", "version", "resumes")
"""The columns of `Group.flows`: what only flow runs have. ``entrypoint`` is ``"path/or/module:qualname"``,
``parameters`` JSON text or NULL, ``code`` a digest, ``resumes`` the id of the run that it continues, as the text of a
UUID: another process has recorded that run, under an integer of its own."""

RESULTS = ("run", "url", "key", "size", "type", "checksum", "inputs", "code", "cached")
"""The columns of `Group.results`: where the value of a COMPLETED run is stored (NULL where it is only known what went
in), a digest of the arguments, one of the task's code, and whether the value was found and not made."""

LOGS = ("number", "run", "time", "level", "logger", "message")
"""The columns of `Group.logs`: a log line of a run; ``number`` counts the lines of the process from 1, so that a line
which is written again is known."""

TYPES = (
    "SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING",
    "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "SKIPPED",
)  # fmt: skip
"""The types of states by their numbers inside; those from COMPLETED on are terminal."""

UNFINISHED = TYPES[: TYPES.index("COMPLETED")]
"""The types that a run has before its last."""


@dataclass(slots=True)
class Group:
    """What is committed together: rows of plain JSON types, since each list travels to the database as one document.

    A database takes a document apart itself (``json_each``), in one statement for each list: the interpreter's lock
    is let go once for a thousand rows. With a statement for each row, a busy program would lend the writer its lock two
    hundred times a second, and no history could keep up with it.

    Nearly all runs are PENDING, then RUNNING, then ended, and all of that stands in the run's own row: ``created``,
    ``started``, and the columns from ``sequence`` on. Only a transition that these cannot tell has a row in ``states``:
    any but the first if that is a plain PENDING, the second if that is a plain RUNNING, and the terminal one. So a
    task costs one row and not five (benchmarks/history.py); `all_states` puts a run's life together again.

    Attributes:
        runs: New runs, as they are when the group is made; see `RUNS`.
        changes: Runs of earlier groups that have gone on; see `CHANGES`. One whose ``sequence`` is not above that of
            the run's row changes nothing.
        states: See `STATES`.
        flows: See `FLOWS`.
        results: See `RESULTS`.
        logs: See `LOGS`.
    """

    runs: list[Row] = field(default_factory=list[Row])
    changes: list[Row] = field(default_factory=list[Row])
    states: list[Row] = field(default_factory=list[Row])
    flows: list[Row] = field(default_factory=list[Row])
    results: list[Row] = field(default_factory=list[Row])
    logs: list[Row] = field(default_factory=list[Row])

    def __bool__(self) -> bool:
        return bool(self.runs or self.changes or self.states or self.flows or self.results or self.logs)


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """A process that records.

    Attributes:
        id: Its number in this history.
        pid: Its process id.
        host: Its machine.
        started: When it began to record, seconds since the epoch.
    """

    id: int
    pid: int
    host: str
    started: float


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
        sequence: How many transitions it has made.
        attempts: How many attempts have begun.
        worker: Who executed its latest attempt, or None if it was executed in place.
        seconds: How long the latest attempt's function took there.
        owner: The process that ran it.
        entrypoint: Where its flow is found, for a root flow run.
        parameters: Its flow's parameters as JSON text, or None if they were not recorded.
        code: A digest of its code.
        version: What its flow's author calls this state of the code.
        resumes: The run that it continues.
        resumed_by: The run that continues it.
        result: Its stored value, or None: ``ResultReference(**run.result).load()`` reads it, and where the store needs
            ``storage_options``, ``store.read(run.result["key"])``.
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
    sequence: int
    attempts: int
    worker: str | None
    seconds: float | None
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
    """One transition of one run.

    Attributes:
        sequence: 1 for the run's first.
        type: The state's type, a value of `StateType`.
        name: Its name.
        message: Its message.
        time: When it was taken, seconds since the epoch.
        attempt: How many attempts had begun.
        due: When a delayed attempt is to begin, or None.
        worker: Who executed the attempt that it ended, or None.
        seconds: How long that attempt's function took there.
    """

    sequence: int
    type: str
    name: str
    message: str | None
    time: float
    attempt: int
    due: float | None = None
    worker: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a run.

    Attributes:
        number: 1 for the first.
        started: When the run became RUNNING for it, seconds since the epoch.
        ended: When it took the next state, or None if the attempt goes on.
        worker: Who executed it, or None if it was executed in place.
        seconds: How long its function took there.
        state: The name of the state that came of it, or None.
        message: That state's message.
    """

    number: int
    started: float
    ended: float | None
    worker: str | None
    seconds: float | None
    state: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line; ``id`` grows with every line of the process, so that a reader can ask for what is new."""

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


def all_states(run: RunRecord, stored: Sequence[StateRecord]) -> list[StateRecord]:
    """A run's transitions in order: those that have rows of their own, and those that stand in the run's row."""
    states = {state.sequence: state for state in stored}
    states.setdefault(1, StateRecord(1, "PENDING", "Pending", None, run.created, 0))
    if run.started is not None:
        states.setdefault(2, StateRecord(2, "RUNNING", "Running", None, run.started, 1))
    if run.ended is not None:
        states[run.sequence] = StateRecord(
            run.sequence,
            run.type,
            run.state,
            run.message,
            run.ended,
            run.attempts,
            worker=run.worker,
            seconds=run.seconds,
        )
    return [states[sequence] for sequence in sorted(states)]


def all_attempts(states: Sequence[StateRecord]) -> list[AttemptRecord]:
    """A run's attempts in order, read from its transitions."""
    attempts = list[AttemptRecord]()
    for state, after in zip_longest(states, states[1:]):
        if state.type != "RUNNING":
            continue
        ending = after and (after.time, after.worker, after.seconds, after.name, after.message)
        ended, worker, seconds, name, message = ending or (None, None, None, None, None)
        attempts.append(AttemptRecord(state.attempt, state.time, ended, worker, seconds, name, message))
    return attempts
