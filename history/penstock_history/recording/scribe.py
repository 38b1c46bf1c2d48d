"""The thread that writes: one for each process and database, while there is an engine that records.

It opens the database, marks what dead processes left unfinished, and writes what waits, a group at a time. A database
that cannot be written is tried again and again, less and less often; what waits meanwhile is bounded by the backlog.
"""

from __future__ import annotations

import threading  # noqa: TID251 (this is the writer's thread)
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic, sleep  # noqa: TID251 (a lease is renewed in real time, whatever clock the runs have)
from uuid import UUID

from penstock.clock import serve_timers_here
from penstock.errors import HistoryError, HistoryWriteError, OwnerLost, ResumeConflict
from penstock.logging import engine_logger
from penstock_history.database import Database, Durability, Writer
from penstock_history.recording.backlog import Backlog, Batch, Promise
from penstock_history.recording.housekeeper import Housekeeper
from penstock_history.recording.lives import Life
from penstock_history.retention import Retention

__all__ = ("Scribe",)

_PACE = 0.1
"""Seconds that rows gather while nobody waits for them. Each group costs a busy program several turns of the
interpreter's lock, whatever is in it; on a machine with other work to do a turn can take milliseconds
(benchmarks/history.py)."""

_MOST = 20_000
"""Runs that are written together at most: what gathers in that time in the quickest fan-out."""

_RENEW = 10.0
"""Seconds between two signs of life, a third of what a database waits for one."""

_LAST_CHANCE = 1.0
"""Seconds that the end of a program waits for a database that does not work."""

_LISTEN = 1.0
"""Seconds between two looks at what other processes want; one takes 10 µs."""

_PATIENCE = 3.0
"""Seconds after which whoever has to know that his run was recorded is told that it cannot be."""

_BACK_OFF, _MOST_BACK_OFF = 0.1, 10.0
"""Seconds between two tries; each pause is twice as long as the one before."""


class Scribe:
    """Writes a backlog into a database.

    Args:
        database: Where to write.
        durability: When a commit counts.
        retention: How much is kept; None for all.
        forsake: Called when this process was taken for dead, so that nothing that it has begun may go on.
        make_room: Called when less waits than before, or when nothing can be written.
        cancel: Called with the runs that other processes want cancelled.

    Attributes:
        backlog: What waits to be written.
        is_failing: Whether the database could not be written when it was last tried.
    """

    def __init__(
        self,
        database: Database,
        durability: Durability,
        retention: Retention | None,
        forsake: Callable[[OwnerLost], None],
        make_room: Callable[[], None],
        cancel: Callable[[Sequence[UUID]], None],
    ) -> None:
        self._database = database
        self._durability: Durability = durability
        self._forsake = forsake
        self._make_room = make_room
        self._cancel = cancel
        self.backlog = Backlog(self._start)
        self.is_failing = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._opened = threading.Event()
        self._error: HistoryError | None = None
        self._writer: Writer | None = None
        self._pause = _BACK_OFF
        self._is_lost = False
        self._renewed = 0.0
        self._listened = 0.0
        self._deletions: SimpleQueue[tuple[Sequence[UUID], Future[int]]] = SimpleQueue()
        self._housekeeper = None if retention is None else Housekeeper(database, retention, self)

    @property
    def is_running(self) -> bool:
        """Whether there has been something to write."""
        return self._thread is not None

    def open(self) -> None:
        """Open the database now; blocks.

        Raises:
            HistoryError: If it cannot be opened, so that nothing would be recorded.
        """
        self.backlog.hurry()
        self._opened.wait()
        if self._error is not None:
            raise self._error

    def close(self, timeout: float) -> None:
        """Write what waits, for at most ``timeout`` seconds, and let go of the database."""
        self._end_housekeeping()
        with self._lock:
            thread = self._thread
            self._closing.set()
        self.backlog.hurry()
        if thread is not None:
            thread.join(timeout)
        for promise in self.backlog.take_promises():
            promise.break_off(HistoryWriteError(f"The history {self._database.url} was closed before it was written."))
        if self.backlog:
            engine_logger.error(
                "%d runs with news could not be written to the history %s before the end.",
                len(self.backlog.lives),
                self._database.url,
            )

    def _end_housekeeping(self) -> None:
        """Let a housekeeper who has just begun, or is about to, part with one run."""
        if self._housekeeper is not None and self._thread is not None:
            self.backlog.hurry()
            self._opened.wait()
            self._housekeeper.stop()

    def delete(self, roots: Sequence[UUID]) -> int:
        """Delete root runs between two groups; blocks until they are gone.

        Returns:
            How many runs went, with those inside them.

        Raises:
            HistoryError: If they could not be deleted.
        """
        gone: Future[int] = Future()
        self._deletions.put((roots, gone))
        self.backlog.hurry()
        if self._closing.is_set():  # the thread may have looked for the last time
            self._refuse_deletions()
        return gone.result()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._serve, name="penstock-history", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        serve_timers_here()
        while not self._closing.is_set():
            self._rest()
            self._write_what_waits()
        self._write_the_last()
        self._refuse_deletions()
        if self._writer is not None:
            self._writer.close()

    def _write_the_last(self) -> None:
        """Write what came meanwhile; a database that does not work gets a few more chances."""
        deadline = monotonic() + _LAST_CHANCE
        while self.backlog and not self._is_lost and monotonic() < deadline:
            self._write_what_waits()
            if self.is_failing:
                sleep(_BACK_OFF)

    def _rest(self) -> None:
        """Wait until there is something to write and it has gathered, or until it is time to try again."""
        if self.is_failing:
            self._closing.wait(self._pause)
            return
        self.backlog.sleep(_LISTEN)
        self.backlog.gather(_PACE)

    def _write_what_waits(self) -> None:
        promises = self.backlog.take_promises()
        try:
            self._write_all()
        except OwnerLost as error:
            self._lose(error, promises)
        except HistoryError as error:
            self._fail(error, promises)
        except Exception as error:
            engine_logger.exception("Writing to the history failed in a way that nobody thought of.")
            self._fail(HistoryWriteError(f"{type(error).__name__}: {error}"), promises)
        else:
            self._succeed(promises)

    def _write_all(self) -> None:
        """Write what is there now; what comes meanwhile is for the next time."""
        writer = self._writer or self._open()
        if monotonic() - self._renewed > _RENEW:
            writer.renew()
            self._renewed = monotonic()
        left = len(self.backlog.lives)
        while batch := self.backlog.take(min(left, _MOST)):
            left -= len(batch.lives)
            try:
                self._write(writer, batch)
            except BaseException:
                self.backlog.put_back(batch)
                raise
            batch.written()
            self._make_room()
        self._delete_what_is_doomed(writer)
        if monotonic() - self._listened > _LISTEN:
            self._listened = monotonic()
            if wanted := writer.to_cancel():
                self._cancel(wanted)

    def _delete_what_is_doomed(self, writer: Writer) -> None:
        for roots, gone in self._take_deletions():
            try:
                gone.set_result(writer.delete(roots))
            except HistoryError as error:
                gone.set_exception(error)

    def _refuse_deletions(self) -> None:
        for _, gone in self._take_deletions():
            gone.set_exception(HistoryWriteError(f"The history {self._database.url} is not written now."))

    def _take_deletions(self) -> Iterator[tuple[Sequence[UUID], Future[int]]]:
        with suppress(Empty):
            while True:
                yield self._deletions.get_nowait()

    def _write(self, writer: Writer, batch: Batch) -> None:
        try:
            writer.write(batch.group(writer.key_of))
        except ResumeConflict:
            for life in batch.take_out_resuming():
                self._write_resuming(writer, life)
            writer.write(batch.group(writer.key_of))

    def _write_resuming(self, writer: Writer, life: Life) -> None:
        """Write a run that continues another, unless somebody else does so already: then there is no such run."""
        alone = Batch([life], [], [])
        try:
            writer.write(alone.group(writer.key_of))
            alone.written()
        except ResumeConflict as conflict:
            life.rare.refusal = conflict
            life.queued = True  # so that it never comes again

    def _open(self) -> Writer:
        try:
            self._writer = writer = self._database.open_writer(self._durability)
            self._renewed = monotonic()
            crashed = writer.reap()
        except HistoryError as error:
            self._error = error
            raise
        else:
            self._error = None
            if self._housekeeper is not None:
                self._housekeeper.start()
        finally:
            self._opened.set()
        if crashed:
            engine_logger.info("%d run(s) of processes that are dead were marked as CRASHED.", len(crashed))
        return writer

    def _succeed(self, promises: list[Promise]) -> None:
        if self.is_failing:
            self.is_failing = False
            self._pause = _BACK_OFF
            engine_logger.warning("The history %s can be written again%s.", self._database.url, self.backlog.losses())
        for promise in promises:
            promise.keep()

    def _fail(self, error: HistoryError, promises: list[Promise]) -> None:
        if not self.is_failing:
            self.is_failing = True
            engine_logger.error(
                "The history %s cannot be written: %s Runs go on, and what becomes of them is written as soon as it "
                "can be, if it is not too much.",
                self._database.url,
                error,
            )
        self._make_room()
        self._refuse_deletions()
        held = list[Promise]()
        for promise in promises:
            if promise.firm and monotonic() - promise.since < _PATIENCE and not self._closing.is_set():
                held.append(promise)
            else:
                promise.break_off(error)
        self.backlog.put_promises_back(held)
        self._pause = _BACK_OFF if held else min(2 * self._pause, _MOST_BACK_OFF)

    def _lose(self, error: OwnerLost, promises: list[Promise]) -> None:
        """End here: whatever this process records from now on, it records as somebody else."""
        self._closing.set()
        self.is_failing = self._is_lost = True
        self._forsake(error)
        for promise in (*promises, *self.backlog.take_promises()):
            promise.break_off(error)
