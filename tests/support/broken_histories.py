"""Databases that are wrong on purpose, each in one way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from penstock_history.database import Durability
from penstock_history.keys import COUNTER_MASK
from penstock_history.records import Group, LogRecord, RunQuery, RunRecord
from penstock_history.sqlite.database import SQLite
from penstock_history.sqlite.reader import SQLiteReader
from penstock_history.sqlite.writer import SQLiteWriter


class Broken(SQLite):
    """A history in SQLite, with a writer or a reader of its own."""

    def __init__(self, path: Path, fault: type[SQLiteWriter | SQLiteReader]) -> None:
        super().__init__(path)
        self._writer = fault if issubclass(fault, SQLiteWriter) else SQLiteWriter
        self._reader = fault if issubclass(fault, SQLiteReader) else SQLiteReader

    def open_writer(self, durability: Durability) -> SQLiteWriter:
        return self._writer(self._path, durability)

    def open_reader(self) -> SQLiteReader:
        return self._reader(self._path, self._connect_reader)


class LosesRuns(SQLiteWriter):
    def write(self, group: Group) -> None:
        super().write(replace(group, runs=group.runs[:-1]))


class LosesTransitions(SQLiteWriter):
    def write(self, group: Group) -> None:
        super().write(replace(group, states=[]))


class LeavesTheEnd(SQLiteWriter):
    def write(self, group: Group) -> None:
        super().write(group)
        with self._file.transaction() as connection:
            for run, sequence, number, *_ in group.changes:
                connection.execute("UPDATE runs SET sequence = ?, type = ? WHERE id = ?", (sequence, number, run))


class RepeatsLines(SQLiteWriter):
    lines = 0

    def write(self, group: Group) -> None:
        self.lines += len(group.logs)
        super().write(replace(group, logs=[(self.lines + at, *row[1:]) for at, row in enumerate(group.logs)]))


class WritesHalves(SQLiteWriter):
    def write(self, group: Group) -> None:
        super().write(Group(runs=group.runs))
        super().write(group)


class ResumesTwice(SQLiteWriter):
    def write(self, group: Group) -> None:
        super().write(replace(group, flows=[(*row[:-1], None) for row in group.flows]))


class CommitsLate(SQLiteWriter):
    waiting: Group | None = None

    def write(self, group: Group) -> None:
        if self.waiting is not None:
            super().write(self.waiting)
        self.waiting = group


class OneNumberForAll(SQLiteWriter):
    def key_of(self, run_id: int) -> int:
        return run_id & COUNTER_MASK


class NeverReaps(SQLiteWriter):
    def reap(self) -> Sequence[UUID]:
        return ()


class ReapsTheStopped(SQLiteWriter):
    """Asks who moves, not who is there."""

    def reap(self) -> Sequence[UUID]:
        whole, self._owners.is_alive = self._owners.is_alive, self._moves  # type: ignore[method-assign]
        try:
            return super().reap()
        finally:
            self._owners.is_alive = whole  # type: ignore[method-assign]

    def _moves(self, owner: int) -> bool:
        connection = sqlite3.connect(self._file.path)
        (pid,) = connection.execute("SELECT pid FROM owners WHERE id = ?", (owner,)).fetchone()
        connection.close()
        status = Path(f"/proc/{pid}/stat")
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "TZ"


class WritesWhenLost(SQLiteWriter):
    def _check_owner(self, connection: sqlite3.Connection) -> None:
        pass


class DeletesTheLiving(SQLiteWriter):
    def delete(self, roots: Sequence[UUID]) -> int:
        with self._file.transaction() as connection:
            connection.execute("UPDATE runs SET type = 5 WHERE parent IS NULL")
        return super().delete(roots)


class DeletesOnlyRuns(SQLiteWriter):
    def delete(self, roots: Sequence[UUID]) -> int:
        count = 0
        with self._file.transaction() as connection:
            for root in roots:
                counter = root.int & COUNTER_MASK
                count += connection.execute("DELETE FROM runs WHERE root & ? = ?", (COUNTER_MASK, counter)).rowcount
        return count


class AsksForEver(SQLiteWriter):
    def to_cancel(self) -> Sequence[UUID]:
        runs = super().to_cancel()
        for run in runs:
            self.ask_to_cancel(run)
        return runs


class OldestFirst(SQLiteReader):
    def runs(self, query: RunQuery) -> list[RunRecord]:
        return super().runs(query)[::-1]


class ForgetsTheLimit(SQLiteReader):
    def runs(self, query: RunQuery) -> list[RunRecord]:
        return super().runs(replace(query, limit=None))


class ReadsOnePage(SQLiteReader):
    def inside(self, root: UUID) -> Iterator[RunRecord]:
        return (run for run, _ in zip(super().inside(root), range(2000), strict=False))


class SortsLinesByTime(SQLiteReader):
    def logs(self, root: UUID, after: int = 0, limit: int | None = None) -> list[LogRecord]:
        return sorted(super().logs(root, after, limit), key=lambda line: line.time)


class FindsWholeIds(SQLiteReader):
    def find(self, text: str) -> list[RunRecord]:
        return [run for run in super().find(text) if text.lower() in (str(run.id), run.id.hex, run.name)]


class ExpiresTheNewest(SQLiteReader):
    def expired(self, *, age: float | None, count: int | None, size: int | None) -> list[UUID]:
        return super().expired(age=age, count=0 if count else None, size=size)[count:]


class Forgets(SQLiteReader):
    """Does not look at one field of a query."""

    field = ""
    usual = RunQuery(kind=None)

    def runs(self, query: RunQuery) -> list[RunRecord]:
        return super().runs(replace(query, **{self.field: getattr(self.usual, self.field)}))


class ForgetsStates(Forgets):
    field = "states"


class ForgetsTags(Forgets):
    field = "tag"


class ForgetsTime(Forgets):
    field = "since"


class ForgetsTheTree(Forgets):
    field = "root"


FAULTS: dict[type[SQLiteWriter | SQLiteReader], str] = {
    LosesRuns: "test_runs_come_out_as_they_went_in",
    LosesTransitions: "test_the_life_of_a_run_is_told_in_order",
    LeavesTheEnd: "test_a_run_goes_on_and_ends_once",
    RepeatsLines: "test_writing_a_group_again_changes_nothing",
    WritesHalves: "test_a_group_is_written_whole_or_not_at_all",
    ResumesTwice: "test_a_group_is_written_whole_or_not_at_all",
    CommitsLate: "test_what_a_killed_process_wrote_is_there",
    OneNumberForAll: "test_keys_tell_runs_apart",
    NeverReaps: "test_what_a_killed_process_left_is_crashed",
    ReapsTheStopped: "test_a_process_that_stands_still_is_alive",
    WritesWhenLost: "test_who_was_taken_for_dead_writes_no_more",
    DeletesTheLiving: "test_what_is_not_over_is_not_deleted",
    DeletesOnlyRuns: "test_a_deleted_run_takes_all_that_is_inside",
    AsksForEver: "test_a_run_is_cancelled_by_request",
    OldestFirst: "test_every_question_gets_the_newest_that_fit",
    ForgetsTheLimit: "test_every_question_gets_the_newest_that_fit",
    ForgetsStates: "test_every_question_gets_the_newest_that_fit",
    ForgetsTags: "test_every_question_gets_the_newest_that_fit",
    ForgetsTime: "test_every_question_gets_the_newest_that_fit",
    ForgetsTheTree: "test_every_question_gets_the_newest_that_fit",
    ReadsOnePage: "test_a_large_flow_is_read_from_its_beginning",
    SortsLinesByTime: "test_logs_are_read_in_order_and_from_where_one_was",
    FindsWholeIds: "test_a_run_is_found_by_what_people_know_of_it",
    ExpiresTheNewest: "test_what_is_too_old_too_many_or_too_much_is_named",
}
"""The test of the suite that names each fault."""
