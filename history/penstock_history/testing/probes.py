"""What the conformance suite for histories writes, and the processes that write it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from uuid import UUID

from penstock.names import next_id
from penstock.testing import wait_until
from penstock_history.database import Database, Durability, Reader, Writer
from penstock_history.records import CHANGES, FLOWS, LOGS, RESULTS, RUNS, STATES, TYPES, Group, Kind, Row, RunRecord

__all__ = ("EPOCH", "Companion", "Story", "buried", "everything", "reading", "record_runs")

EPOCH = 1_750_000_000.0
"""When the stories begin."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Story:
    """Writes runs down in a group, and says as what they should come out again.

    Args:
        writer: Whose group it is.

    Attributes:
        group: The rows so far.
    """

    def __init__(self, writer: Writer) -> None:
        self.group = Group()
        self._writer = writer
        self._lines = 0

    def begin(self, **fields: Any) -> RunRecord:
        """Add a run that is RUNNING.

        Args:
            fields: Of `RunRecord`, where it is to differ from the usual.
        """
        run_id = UUID(int=next_id())
        parent: RunRecord | None = fields.pop("inside", None)
        created = fields.get("created", EPOCH + run_id.int % 1_000_000)
        usual = RunRecord(
            id=run_id,
            kind="flow" if parent is None else "task",
            name=f"run-{run_id.int % 1_000_000}",
            definition="main" if parent is None else "add",
            parent=None if parent is None else parent.id,
            root=run_id if parent is None else parent.root,
            position=0,
            state="Running",
            type="RUNNING",
            message=None,
            tags=(),
            created=created,
            started=created + 1,
            ended=None,
            sequence=2,
            attempts=1,
            worker=None,
            seconds=None,
            owner=self._writer.owner.id,
        )
        run = replace(usual, **fields)
        self.group.runs.append(self._row(RUNS, run))
        return run

    def end(self, run: RunRecord, type: str = "COMPLETED", **fields: Any) -> RunRecord:  # noqa: A002
        """Add the end of a run that was begun in an earlier group.

        Args:
            run: The run.
            type: The type of its last state.
            fields: Of `RunRecord`.
        """
        usual: dict[str, Any] = {"type": type, "state": type.capitalize(), "ended": run.created + 9, "sequence": 3}
        ended = replace(run, **{**usual, **fields})
        self.group.changes.append(self._row(CHANGES, ended))
        return ended

    def done(self, type: str = "COMPLETED", **fields: Any) -> RunRecord:  # noqa: A002
        """Add a run that has begun and ended."""
        run = self.begin(**fields)
        ended = replace(run, type=type, state=fields.get("state", type.capitalize()), ended=run.created + 9, sequence=3)
        self.group.runs[-1] = self._row(RUNS, ended)
        return ended

    def state(self, run: RunRecord, sequence: int, type: str, name: str | None = None, **fields: Any) -> None:  # noqa: A002
        """Add a transition that the run's row cannot tell."""
        usual = {"time": run.created + sequence, "attempt": 0}
        values = {**usual, **fields, "run": self._key(run.id), "sequence": sequence, "name": name}
        self.group.states.append(_in_order(STATES, {**values, "type": TYPES.index(type)}))

    def flow(self, run: RunRecord, **fields: Any) -> RunRecord:
        """Add what only flow runs have."""
        run = replace(run, **fields)
        resumes = None if run.resumes is None else str(run.resumes)
        values = {name: getattr(run, name) for name in FLOWS[1:]}
        self.group.flows.append(_in_order(FLOWS, {**values, "resumes": resumes, "run": self._key(run.id)}))
        return run

    def result(self, run: RunRecord, **fields: Any) -> RunRecord:
        """Add what a run stored, or what went into it."""
        run = replace(run, **fields)
        values = {"inputs": run.inputs, "code": run.code, "cached": run.cached, **(run.result or {})}
        self.group.results.append(_in_order(RESULTS, {**values, "run": self._key(run.id)}))
        return run

    def log(self, run: RunRecord, message: str, **fields: Any) -> None:
        """Add a log line."""
        self._lines += 1
        usual = {"number": self._lines, "time": EPOCH, "level": 20, "logger": "penstock.runs"}
        self.group.logs.append(_in_order(LOGS, {**usual, **fields, "run": self._key(run.id), "message": message}))

    def write(self) -> None:
        """Commit the group, and begin another."""
        self._writer.write(self.group)
        self.group = Group()

    def _key(self, run_id: UUID | None) -> int | None:
        return None if run_id is None else self._writer.key_of(run_id.int)

    def _row(self, columns: Sequence[str], run: RunRecord) -> Row:
        usual_name = run.state == run.type.capitalize()
        values = {name: getattr(run, name, None) for name in columns} | {
            "id": self._key(run.id),
            "run": self._key(run.id),
            "parent": self._key(run.parent),
            "root": self._key(run.root),
            "kind": _KINDS[run.kind],
            "tags": list(run.tags) or None,
            "type": TYPES.index(run.type),
            "state": None if usual_name else run.state,
            "attempt": run.attempts,
        }
        return _in_order(columns, values)


_KINDS: Mapping[Kind, int] = {"flow": 0, "task": 1}


def _in_order(columns: Sequence[str], values: Mapping[str, Any]) -> Row:
    return tuple(values.get(name) for name in columns)


def record_runs(writer: Writer, groups: int, runs: int) -> list[UUID]:
    """Record a flow run for each group, with as many task runs inside; give the ids of the flow runs."""
    roots: list[UUID] = []
    for _ in range(groups):
        story = Story(writer)
        root = story.begin()
        for position in range(runs):
            story.done(inside=root, position=position)
        story.write()
        story.end(root)
        story.write()
        roots.append(root.id)
    return roots


def reading(database: Database) -> closing[Reader]:
    """A reader for a block."""
    return closing(database.open_reader())


def buried(reap: Callable[[], Sequence[UUID]], patience: float) -> list[UUID]:
    """What is found when the dead are noticed.

    Args:
        reap: Looks for them.
        patience: Seconds after which they must be noticed.
    """
    found: list[UUID] = []

    def look() -> bool:
        found.extend(reap())
        return bool(found)

    wait_until(look, "a dead process to be noticed", patience)
    return found


def everything(reader: Reader, root: RunRecord) -> list[object]:
    """All that a history knows of a root run."""
    runs = [reader.run(root.id), *reader.inside(root.id)]
    return [runs, [reader.states(run.id) for run in runs if run], reader.logs(root.id)]


class Companion:
    """Another process that has the same history open; leaving the context kills it.

    Args:
        database: The history; it is sent there, so it can be pickled.
        durability: When a commit counts.
    """

    def __init__(self, database: Database, durability: Durability = "fast") -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(database, durability, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid or 0

    def do(self, work: Callable[Concatenate[Writer, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function of a module with the process's writer, there."""
        self.start(work, *args, **kwargs)
        answer: _T = self.answer()
        return answer

    def start(self, work: Callable[Concatenate[Writer, _P], Any], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Begin what `do` does, and go on meanwhile."""
        self._line.send((work, args, kwargs))

    def answer(self) -> Any:
        """Wait for what was begun.

        Raises:
            BaseException: What it raised.
        """
        value, error = self._line.recv()
        if error is not None:
            raise error
        return value

    def stop(self) -> None:
        """Make the process stand still, as a laptop does whose lid is closed."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """Let the process move again."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process, so that it cannot say good-bye."""
        self._process.kill()
        self._process.join()

    def leave(self) -> None:
        """Let the process close its writer and end."""
        self._line.send(None)
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._line.close()


def _serve(database: Database, durability: Durability, line: Connection) -> None:
    writer = database.open_writer(durability)
    while (message := line.recv()) is not None:
        work, args, kwargs = message
        try:
            line.send((work(writer, *args, **kwargs), None))
        except Exception as error:
            line.send((None, error))
    writer.close()
