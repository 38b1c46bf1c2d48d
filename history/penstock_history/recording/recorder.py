"""From transitions to rows: what an engine tells its history, as cheaply as it can be told.

A run that takes a state changes its own record (`lives.Life`) and, unless that waits to be written already, puts it in
a queue: two microseconds for a task, no lock, and no system call but to wake the writer when it sleeps. The `Scribe`
writes what is there, a group at a time, on a thread of its own.

Nothing here makes a run wait, but for two things. One whose end has to be known before anybody is told of it waits for
its group (`Recorder.recorded`). And where runs begin faster than they can be written, they wait for room to begin; if
nothing can be written at all they are not recorded, from the beginning to the end, and counted.
"""

from __future__ import annotations

import atexit
import os
import threading  # noqa: TID251 (engines come and go on many threads)
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from time import monotonic  # noqa: TID251 (how long somebody has waited for the disk)
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakSet

from penstock.errors import HistoryError, OwnerLost
from penstock.flow_runs import FlowRun
from penstock.logging import engine_logger
from penstock.names import next_id
from penstock.records import Run, cancel_all
from penstock.signals import Signal
from penstock.states import State, StateType
from penstock.task_runs import TaskRun
from penstock_history.database import Database, Durability
from penstock_history.keys import int_of
from penstock_history.recording.backlog import MOST_WAITING, Promise
from penstock_history.recording.lines import Lines, listen, stop_listening
from penstock_history.recording.lives import (
    BORN,
    COMPLETED,
    FLOW,
    NUMBERS,
    RUNNING,
    SCHEDULED,
    TASK,
    UNRECORDED,
    Life,
    Progress,
    result_row,
    short,
)
from penstock_history.recording.scribe import Scribe
from penstock_history.recording.visits import lives_of_visits
from penstock_history.resuming.changes import code_or_none
from penstock_history.resuming.entrypoints import entrypoint_of
from penstock_history.retention import Retention

__all__ = ("Recorder",)

_PENDING, _RUNNING = StateType.PENDING, StateType.RUNNING

_GRACE = 10.0
"""Seconds that the writer gets at the end of the process."""


class EngineView(Protocol):
    """What a recorder knows of an engine that records here."""

    live: set[Run]


class Recorder:
    """Tells a database what becomes of the runs of this process's engines; see `penstock.ports.Recorder`.

    Args:
        database: Where it is kept.
        durability: When a commit counts.
        retention: How much is kept; None for all.

    Attributes:
        durability: When a commit counts.
        terms: Durability and retention.
        room: While runs begin faster than they can be written, what the next should wait for.
    """

    def __init__(self, database: Database, durability: Durability, retention: Retention | None = None) -> None:
        self.durability: Durability = durability
        self.terms: tuple[Durability, Retention | None] = (durability, retention)
        self.room: Signal | None = None
        self._database = database
        self._lock = threading.Lock()
        self._engines: WeakSet[EngineView] = WeakSet()
        self._line_number = count(1).__next__
        self._lines = Lines(self.take_line)
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        """Have nothing to do with what has been recorded so far: its owner is gone, and with him what he knew."""
        self._first = next_id()
        self._scribe = Scribe(self._database, *self.terms, self._forsake, self._make_room, self._cancel)
        self._backlog = self._scribe.backlog

    def take(self, run: Run, kind: StateType, name: str | None, message: str | None, time: float) -> None:
        """Take note of a transition; called by the run's own thread, right after it was made."""
        life: Life | None = run.life
        # The first two steps of nearly every run are taken here, for half of what `_take` costs.
        if life is None:
            life = run.life = self._begin(run, time)
            if kind is _PENDING and name is None and message is None and life is not UNRECORDED:
                life.now = BORN
            else:
                self._take(run, life, kind, name, message, time)
        elif life.now is BORN and life.more is None and kind is _RUNNING and name is None:
            life.now = (2, RUNNING, None, None, time, None, run.attempt, None, None)
        elif life.now[1] < COMPLETED:
            self._take(run, life, kind, name, message, time)
        else:
            return  # it was recorded before it was taken
        if not life.queued:
            self._queue(life)

    def _take(
        self, run: Run, life: Life, kind: StateType, name: str | None, message: str | None, time: float | None
    ) -> None:
        if life.more is not None or run.kept is not None:
            _add_rare(run, life, kind)
        number = NUMBERS[kind]
        extra = life.go_on(number, name, message, time, run.attempt, run.worker or None, run.seconds)
        if extra is not None and life is not UNRECORDED:
            due = run.due if number == SCHEDULED else None
            self._backlog.add_state((life.birth[0], *extra[:6], due, *extra[6:]))

    def complete(self, run: Run, state: State) -> Signal:
        """Take note of a run's COMPLETED before the run takes it.

        Returns:
            What happens once that is written, or cannot be: its value is None, or the error that the run must fail
            with because its end was to be durable.
        """
        life: Life = run.life
        before = life.now if self.durability == "full" else None
        self._take(run, life, state.type, state.own_name, state.message, state.timestamp)
        if not life.queued:
            self._queue(life)
        return self._promise(life, before)

    def recorded(self, run: Run) -> Signal:
        """What happens once all is written that is known of a run by now; its value is None, or why it cannot be."""
        life: Life | None = run.life
        return self._promise(life, None if life is None else life.now)

    def comes_first(self, run: Run) -> bool:
        """Whether a run's COMPLETED has to be written before anybody is told of it.

        With durability "full" always. With "fast" where its value is stored: a run without a value that another process
        could find would be executed again in any case, so knowing of its end is worth no delay.
        """
        return self.durability == "full" or (run.kept is not None and self.durability == "fast")

    def begin_flow(self, run: FlowRun) -> None:
        """Take down how a root flow run can be continued, before its function can change its arguments; may block."""
        from penstock_history.resuming.parameters import pack  # brings the serializers

        life: Life | None = run.life
        if life is not None and life is not UNRECORDED:
            flow = run.flow
            resumes = None if run.resumes is None else str(run.resumes)
            life.rare.flow = (entrypoint_of(flow), pack(run), code_or_none(flow), flow.version, resumes)

    def take_visits(self, run: TaskRun, records: Iterable[Mapping[str, Any]]) -> None:
        """Take note of what ran on a worker, inside an attempt of a run."""
        lives = lives_of_visits(run, records, self._backlog.add_state)
        if run.life is not UNRECORDED:
            for life in lives:
                self._queue(life)

    def take_line(self, run_id: str, time: float, level: int, logger: str, message: str) -> None:
        """Take a log line of a run; only what runs here is recorded, and not what visits this process as a worker."""
        if self._scribe.is_running:
            self._backlog.add_line((self._line_number(), int_of(run_id), time, level, logger, short(message)))

    @property
    def is_used(self) -> bool:
        """Whether an engine records here."""
        return bool(self._engines)

    @property
    def waiting(self) -> int:
        """How many runs have news that is not written."""
        return len(self._backlog.lives)

    def add(self, engine: EngineView) -> None:
        """Count an engine among those that record here."""
        self._engines.add(engine)
        listen(self._lines)

    def open(self, engine: EngineView) -> None:
        """Open the database now, and not when there is something to write; blocks.

        Args:
            engine: On whose behalf; it records here no more if the database cannot be opened.

        Raises:
            HistoryError: If it cannot be opened.
        """
        try:
            self._scribe.open()
        except HistoryError:
            self.remove(engine, _GRACE)
            raise

    def remove(self, engine: EngineView, timeout: float) -> None:
        """Write what is there, for at most ``timeout`` seconds; the last engine that goes closes the database."""
        self._engines.discard(engine)
        if self._engines:
            self.flush(timeout)
        else:
            self.close(timeout)

    def close(self, timeout: float) -> None:
        """Write what is there and let go of the database; what comes later opens it anew."""
        with self._lock:
            scribe = self._scribe
            self._begin_anew()
        scribe.close(timeout)
        self._make_room()
        if not self._engines:
            stop_listening(self._lines)

    def forget(self) -> None:
        """In a forked child nothing of its parent is recorded, and the writer's thread does not exist."""
        self._lock = threading.Lock()
        self.room = None
        self._begin_anew()

    def flush(self, timeout: float) -> None:
        """Write what is there, for at most ``timeout`` seconds."""
        if not self._scribe.is_running:
            return
        written = threading.Event()
        self._promise(None, None).on_done(lambda _: written.set())
        if not written.wait(timeout):
            engine_logger.error("The history %s did not keep up within %s seconds.", self._database.url, timeout)

    def _promise(self, life: Life | None, before: Progress | None) -> Signal:
        signal = Signal()
        if before is None and self._scribe.is_failing:
            signal.complete()  # nobody is held up by a database that does not work
            return signal
        with self._lock:  # or the writer could leave before it has seen it
            self._backlog.add_promise(Promise(signal, monotonic(), life, before))
        return signal

    def _queue(self, life: Life) -> None:
        if life.birth[2] < self._first:
            return
        life.queued = True
        backlog = self._backlog
        backlog.lives.append(life)
        if backlog.asleep:
            backlog.wake()

    def _begin(self, run: Run, time: float) -> Life:
        parent, key, definition = run.parent, run.key, run.definition
        around: Life = UNRECORDED if parent is None else parent.life or UNRECORDED
        root = key if parent is None else around.birth[2]
        if root < self._first:
            return UNRECORDED
        if len(self._backlog.lives) >= MOST_WAITING and not self._find_room():
            return UNRECORDED
        birth = (
            key,
            None if parent is None else parent.key,
            root,
            FLOW if isinstance(run, FlowRun) else TASK,
            definition.name,
            run.position,
            sorted(run.tags) if run.tags else None,
            time,
        )
        if definition.run_name is not None:
            life = Life(birth, definition.name)
            life.rare.named = False
            return life
        return Life(birth, run.name if isinstance(run, FlowRun) else run._name)

    def _find_room(self) -> bool:
        """Whether one more run can wait to be written; those that come after it are to wait before they begin."""
        if self.room is None and not self._scribe.is_failing:
            with self._lock:
                self.room = self.room or Signal()
            self._backlog.hurry()
        if len(self._backlog.lives) < 2 * MOST_WAITING:
            return True
        if not self._backlog.lost_runs:
            engine_logger.warning("The history cannot keep up: runs that begin from now on are not recorded.")
        self._backlog.lost_runs += 1
        return False

    def _make_room(self) -> None:
        if self.room is not None and (self._scribe.is_failing or len(self._backlog.lives) < MOST_WAITING // 2):
            room, self.room = self.room, None
            room.complete()

    def _cancel(self, wanted: Collection[UUID]) -> None:
        """Cancel what another process asked for; runs that have ended meanwhile are not there any more."""
        roots = [run for engine in tuple(self._engines) for run in tuple(engine.live)]
        runs = [run for root in roots for run in (root, *root.inside()) if run.id in wanted]
        _cancel_apart(runs, "cancelled by request of another process")

    def _forsake(self, error: OwnerLost) -> None:
        """This process was taken for dead, and its runs for crashed: they stop, and what begins now begins anew."""
        with self._lock:
            self._begin_anew()
        engine_logger.error("%s The runs of this process are cancelled.", error)
        runs = [run for engine in tuple(self._engines) for run in tuple(engine.live)]
        _cancel_apart(runs, "cancelled because another process took this one for dead (owner_lost)")
        self._make_room()


def _cancel_apart(runs: Collection[Run], reason: str) -> None:
    """Cancel runs on a thread of its own, since what a cancelled run does next may be the user's code."""
    threading.Thread(target=cancel_all, args=(runs, reason), name="penstock-fence", daemon=True).start()


def _add_rare(run: Run, life: Life, kind: StateType) -> None:
    """Add a name that is made of parameters, once the run has them, and where its value is stored, once it is."""
    if life is UNRECORDED or kind is _PENDING:
        return
    more = life.rare
    if not more.named:
        life.name, more.named, more.renamed = _name_of(run), True, True
    if run.kept is not None:
        more.result = result_row(run.kept)


def _name_of(run: Run) -> str:
    try:
        return run.name
    except Exception as error:  # whatever a template or the user's function raises: it is not the history's business
        engine_logger.debug("The name of a run of %s cannot be made: %s", run.definition, error)
        return run.definition.name


_all: WeakSet[Recorder] = WeakSet()


def _close_all() -> None:
    for recorder in tuple(_all):
        recorder.close(_GRACE)


def _forget_all() -> None:
    for recorder in tuple(_all):
        recorder.forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
