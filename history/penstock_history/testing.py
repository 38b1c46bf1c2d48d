# ruff: noqa: D102 (the name of a test says what it checks)
"""The conformance suite for databases that keep a history.

::

    class TestMyDatabase(HistoryTests):
        @pytest.fixture
        def database(self, tmp_path: Path) -> Database:
            return MyDatabase(tmp_path)

        def lose(self, database: Database, writer: Writer) -> None:
            ...  # make other processes take the writer's for dead

A database is sent to other processes, so it can be pickled. What was written is mostly read by another connection, or
written by another process, which is then left in peace, stopped or killed.
"""

from __future__ import annotations

import random  # noqa: TID251 (many runs, some alike)
import time  # noqa: TID251 (a dead process may be noticed late)
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from penstock.errors import OwnerLost, ResumeConflict
from penstock.names import next_id
from penstock_history.database import Database, Reader, Writer
from penstock_history.oracle import fits, many_queries, many_runs
from penstock_history.probes import EPOCH, Companion, Story, prefix, record_runs
from penstock_history.records import RUNS, Group, RunQuery, RunRecord

__all__ = ("HistoryTests",)

_TAGS = RUNS.index("tags")


class HistoryTests:
    """Inherit this, and provide the fixture ``database``: a history that is empty, and nobody else's.

    Attributes:
        patience: Seconds after which a process that was killed must be known to be dead.
    """

    patience = 60.0

    @pytest.fixture
    def database(self) -> Database:
        """An empty history."""
        raise NotImplementedError(f"{type(self).__name__}.database")

    def lose(self, database: Database, writer: Writer) -> None:
        """Make other processes take a writer's process for dead, though it lives."""
        raise NotImplementedError(f"{type(self).__name__}.lose")

    @pytest.fixture
    def writer(self, database: Database) -> Iterator[Writer]:
        """This process's writer."""
        writer = database.open_writer(prefix(), "fast")
        yield writer
        writer.close()

    # --- what is there ---

    def test_a_history_that_is_not_there_is_empty(self, database: Database) -> None:
        nobody = UUID(int=next_id())
        with reading(database) as reader:
            assert reader.runs(RunQuery(kind=None)) == []
            assert reader.run(nobody) is None
            assert reader.find(str(nobody)) == reader.find("amber-falcon") == []
            assert not reader.states(nobody)
            assert not reader.attempts(nobody)
            assert not reader.logs(nobody)
            assert not list(reader.inside(nobody))
            assert reader.expired(age=0, count=0, size=0) == []
            assert not reader.is_alive(1)
            writer = database.open_writer(prefix(), "fast")
            (root,) = record_runs(writer, 1, 1)
            assert [run.id for run in reader.runs(RunQuery())] == [root]
            writer.close()

    def test_runs_come_out_as_they_went_in(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        root = story.flow(
            story.begin(name="amber-falcon", tags=("etl", 'it\'s "quoted"', "läuft"), position=3, message="so far"),
            entrypoint="flows/main.py:main",
            parameters='{"n": 1}',
            code="c0de",
            version="7",
        )
        task = story.result(
            story.done(inside=root, state="Cached", worker="pid 17 on host", seconds=0.25, position=12),
            result={"url": "file:///x", "key": "a/b", "size": 5, "type": "int", "checksum": "sha256:1"},
            inputs="in",
            code="of the task",
            cached=True,
        )
        below = story.begin(inside=task, root=root.id, definition="inner")
        failed = story.done("FAILED", inside=root, message="ValueError: no", attempts=3)
        story.write()
        with reading(database) as reader:
            for run in (root, task, below, failed):
                assert reader.run(run.id) == run

    def test_a_run_goes_on_and_ends_once(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run = story.begin(started=None, type="PENDING", state="Pending", sequence=1, attempts=0)
        story.write()
        story.end(run, "RUNNING", started=run.created + 1, ended=None, sequence=2, attempts=1, name="later")
        story.write()
        ended = story.end(replace(run, started=run.created + 1, attempts=1, name="later"), state="Fine", message="!")
        story.write()
        with reading(database) as reader:
            assert reader.run(run.id) == ended
            story.end(run, "RUNNING", ended=None, sequence=2)
            story.write()
            assert reader.run(run.id) == ended, "an older transition came late"
            story.end(run, "FAILED", sequence=4)
            story.write()
            assert reader.run(run.id) == ended, "a terminal state was replaced"

    def test_a_change_leaves_what_it_does_not_tell(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run = story.begin()
        story.write()
        story.end(run, started=None, name=None)
        story.write()
        with reading(database) as reader:
            found = reader.run(run.id)
        assert found
        assert (found.started, found.name) == (run.started, run.name)

    def test_the_life_of_a_run_is_told_in_order(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        root = story.begin()
        run = story.done("FAILED", inside=root, sequence=5, attempts=2, worker="w2", seconds=2.0, message="again")
        story.group.runs[-1] = (*story.group.runs[-1][:9], 5, *story.group.runs[-1][10:])
        story.state(run, 4, "RUNNING", "Retrying", attempt=2)
        story.state(
            run, 3, "SCHEDULED", "AwaitingRetry", message="no", due=EPOCH + 9, worker="w1", seconds=1.0, attempt=1
        )
        story.write()
        with reading(database) as reader:
            states, attempts = reader.states(run.id), reader.attempts(run.id)
            assert [state.sequence for state in reader.states(root.id)] == [1, 2]
        assert [(state.sequence, state.type, state.name, state.attempt) for state in states] == [
            (1, "PENDING", "Pending", 0),
            (2, "RUNNING", "Running", 1),
            (3, "SCHEDULED", "AwaitingRetry", 1),
            (4, "RUNNING", "Retrying", 2),
            (5, "FAILED", "Failed", 2),
        ]
        assert (states[2].due, states[2].message, states[4].time) == (EPOCH + 9, "no", run.created + 9)
        assert [(attempt.number, attempt.worker, attempt.seconds, attempt.state) for attempt in attempts] == [
            (1, "w1", 1.0, "AwaitingRetry"),
            (2, "w2", 2.0, "Failed"),
        ]

    def test_what_goes_in_is_known_before_what_comes_out(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run = story.result(story.begin(), inputs="in", code="c")
        story.write()
        stored = {"url": "file:///x", "key": "k", "size": 1, "type": "int", "checksum": "1"}
        run = story.result(run, result=stored)
        story.write()
        story.result(replace(run, result=None))
        story.write()
        with reading(database) as reader:
            assert reader.run(run.id) == run

    def test_any_text_can_be_kept(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        texts = ["", "'; DROP TABLE runs; --", '"\\', "☃ \U0001f40b", "line\nbreak\ttab", "x" * 200_000]
        runs = [story.done(name=text or "-", message=text, tags=(text or "-",)) for text in texts]
        broken = story.done(message="\udcff is no text")
        story.write()
        with reading(database) as reader:
            for run in runs:
                assert reader.run(run.id) == run
                assert run in reader.runs(RunQuery(tag=run.tags[0], limit=None))
            found = reader.run(broken.id)
            assert found
            assert (found.message or "").endswith(" is no text")

    # --- writing ---

    def test_writing_a_group_again_changes_nothing(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        root = story.flow(story.begin(tags=("t",)), entrypoint="a:b", resumes=UUID(int=next_id()))
        run = story.result(story.done(inside=root), inputs="in")
        story.state(run, 2, "RUNNING", "Special")
        for _ in range(3):
            story.log(run, "the same words")
        group = story.group
        writer.write(group)
        with reading(database) as reader:
            before = everything(reader, root)
            writer.write(group)
            assert everything(reader, root) == before
            assert len(reader.logs(root.id)) == 3

    def test_a_repeated_group_may_know_more(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run = story.begin()
        early = story.group
        story.group = Group()
        story.end(run)
        ((_, *progress),) = story.group.changes
        ((*beginning, _, _, _, _, _, _, _, _, _),) = early.runs
        writer.write(early)
        writer.write(Group(runs=[(*beginning, *progress[:-1])]))
        with reading(database) as reader:
            found = reader.run(run.id)
        assert found
        assert (found.type, found.sequence) == ("COMPLETED", 3)

    def test_a_group_is_written_whole_or_not_at_all(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        crashed = story.done("CRASHED")
        first = story.flow(story.begin(), resumes=crashed.id)
        story.write()
        innocent = story.done()
        second = story.flow(story.begin(), resumes=crashed.id)
        with pytest.raises(ResumeConflict):
            story.write()
        with reading(database) as reader:
            assert reader.run(innocent.id) is None
            assert reader.run(second.id) is None
            found = reader.run(crashed.id)
            assert found
            assert found.resumed_by == first.id
        after = Story(writer)
        run = after.done()
        after.write()
        with reading(database) as reader:
            assert reader.run(run.id) == run

    def test_what_is_about_no_run_leaves_nothing(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run = story.done()
        story.write()
        writer.delete([run.id])
        story.end(run)
        story.state(run, 2, "RUNNING", "Special")
        story.flow(run, entrypoint="a:b")
        story.result(run, inputs="in")
        story.log(run, "too late")
        story.write()
        with reading(database) as reader:
            assert reader.run(run.id) is None
            assert not reader.states(run.id)
            assert not reader.logs(run.id)

    def test_keys_tell_runs_apart(self, writer: Writer) -> None:
        first = next_id()
        ids = [first, first + 1, first + (1 << 32), first + (1 << 40), first + (1 << 90)]
        keys = [writer.key_of(run_id) for run_id in ids]
        assert len(set(keys)) == len(ids)
        assert keys == [writer.key_of(run_id) for run_id in ids]

    # --- several processes ---

    def test_what_a_killed_process_wrote_is_there(self, database: Database) -> None:
        with Companion(database) as companion:
            (root,) = companion.do(record_runs, 1, 10)
            companion.kill()
            with reading(database) as reader:
                found = reader.run(root)
                assert found
                assert found.type == "COMPLETED"
                assert len(list(reader.inside(root))) == 10

    def test_processes_write_side_by_side(self, database: Database, writer: Writer) -> None:
        with Companion(database) as one, Companion(database) as another:
            for companion in (one, another):
                companion.start(record_runs, 20, 5)
            mine = record_runs(writer, 20, 5)
            roots = [*mine, *one.answer(), *another.answer()]
            with reading(database) as reader:
                assert {run.id for run in reader.runs(RunQuery(limit=None))} == set(roots)
                assert len({run.owner for run in reader.runs(RunQuery(limit=None))}) == 3
                for root in roots:
                    assert [run.position for run in reader.inside(root)] == [0, 1, 2, 3, 4]

    def test_a_worker_that_several_processes_share_keeps_its_runs_apart(
        self, database: Database, writer: Writer
    ) -> None:
        base = next_id() + (1 << 100)
        mine = nested_run(writer, base)
        with Companion(database) as companion:
            theirs = companion.do(nested_run, base + 1)
            with reading(database) as reader:
                for root, nested in (mine, theirs):
                    assert [run.id for run in reader.inside(root)] == [nested]
                    found = reader.run(nested)
                    assert found
                    assert found.root == root

    def test_what_a_killed_process_left_is_crashed(self, database: Database, writer: Writer) -> None:
        with Companion(database) as companion:
            roots = companion.do(leave_unfinished)
            assert list(writer.reap()) == []
            companion.kill()
            assert set(self._reap(writer)) == set(roots)
            assert list(writer.reap()) == []
        with reading(database) as reader:
            for root in roots:
                done, *unfinished = sorted(reader.inside(root), key=lambda run: run.type != "COMPLETED")
                assert (done.state, done.sequence) == ("Completed", 3)
                for run in (reader.run(root), *unfinished):
                    assert run
                    assert (run.type, run.state) == ("CRASHED", "Crashed")
                    assert "owner_lost" in (run.message or "")
                    assert run.ended is not None
                    assert not reader.is_alive(run.owner)
                    sequences = [state.sequence for state in reader.states(run.id)]
                    assert sequences == list(range(1, run.sequence + 1))

    def test_a_process_that_stands_still_is_alive(self, database: Database, writer: Writer) -> None:
        with Companion(database) as companion:
            (root, *_) = companion.do(leave_unfinished)
            companion.stop()
            with reading(database) as reader:
                found = reader.run(root)
                assert found
                assert reader.is_alive(found.owner)
                assert list(writer.reap()) == []
                companion.go_on()
                assert companion.do(record_runs, 1, 1)

    def test_a_process_that_left_is_not_alive(self, database: Database, writer: Writer) -> None:
        with Companion(database) as companion, reading(database) as reader:
            (root,) = companion.do(record_runs, 1, 1)
            companion.leave()
            found = reader.run(root)
            assert found
            assert found.type == "COMPLETED"
            assert not reader.is_alive(found.owner)
            assert list(writer.reap()) == []

    def test_what_a_process_leaves_open_is_crashed(self, database: Database, writer: Writer) -> None:
        with Companion(database) as companion:
            roots = companion.do(leave_unfinished)
            companion.leave()
            assert set(self._reap(writer)) == set(roots)

    def test_who_was_taken_for_dead_writes_no_more(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run = story.begin()
        story.write()
        self.lose(database, writer)
        with Companion(database) as companion:
            deadline = time.monotonic() + self.patience
            while not (reaped := companion.do(reap)):
                assert time.monotonic() < deadline, "nobody noticed"
            assert reaped == [run.id]
        story.end(run)
        innocent = story.done()
        with pytest.raises(OwnerLost):
            story.write()
        with pytest.raises(OwnerLost):
            story.write()
        with reading(database) as reader:
            found = reader.run(run.id)
            assert found
            assert found.type == "CRASHED"
            assert reader.run(innocent.id) is None

    def test_a_run_is_cancelled_by_request(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run, ended = story.begin(), story.done()
        story.write()
        assert list(writer.to_cancel()) == []
        with Companion(database) as companion:
            assert companion.do(ask_to_cancel, run.id)
            assert not companion.do(ask_to_cancel, ended.id)
            assert not companion.do(ask_to_cancel, UUID(int=next_id()))
            assert companion.do(to_cancel) == []
        assert list(writer.to_cancel()) == [run.id]
        assert list(writer.to_cancel()) == []

    # --- reading ---

    def test_every_question_gets_the_newest_that_fit(self, database: Database, writer: Writer) -> None:
        runs = many_runs(writer, random.Random(7))
        with reading(database) as reader:
            assert reader.runs(RunQuery(kind=None, limit=None)) == runs
            for query in many_queries(runs):
                expected = [run for run in runs if fits(run, query, runs)]
                assert reader.runs(replace(query, limit=None)) == expected, query
                assert reader.runs(replace(query, limit=7)) == expected[:7], query

    def test_a_run_is_found_by_what_people_know_of_it(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        runs = [story.done(name="amber-falcon", created=EPOCH), story.done(name="amber-falcon", created=EPOCH + 1)]
        story.write()
        older, newer = runs
        text = str(newer.id)
        with reading(database) as reader:
            assert reader.find(text) == reader.find(text.upper()) == [newer]
            assert reader.find(text.replace("-", "")) == [newer]
            assert reader.find(text[-12:]) == reader.find(text[-6:]) == reader.find(text[-8:]) == [newer]
            assert reader.find(text[:35]) == [run for run in (newer, older) if str(run.id).startswith(text[:35])]
            assert reader.find(text[:8]) == reader.find("amber-falcon") == [newer, older]
            assert reader.find("brave-heron") == []

    def test_logs_are_read_in_order_and_from_where_one_was(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        root = story.begin()
        task = story.done(inside=root)
        below = story.done(inside=task, root=root.id)
        other = story.begin()
        for number, run in enumerate((root, task, below, other, task, root)):
            story.log(run, f"line {number}", level=10 * number, logger=f"penstock.{number % 2}", time=EPOCH - number)
        story.write()
        with reading(database) as reader:
            lines = reader.logs(root.id)
            assert [line.message for line in lines] == ["line 0", "line 1", "line 2", "line 4", "line 5"]
            assert [line.run for line in lines] == [root.id, task.id, below.id, task.id, root.id]
            assert (lines[1].level, lines[1].logger, lines[1].time) == (10, "penstock.1", EPOCH - 1)
            assert reader.logs(root.id, limit=2) == lines[:2]
            assert reader.logs(root.id, after=lines[1].id) == lines[2:]
            assert [line.message for line in reader.logs(task.id)] == ["line 1", "line 2", "line 4"]
            assert [line.message for line in reader.logs(below.id)] == ["line 2"]
            story.log(below, "line 6")
            story.write()
            assert [line.message for line in reader.logs(root.id, after=lines[-1].id)] == ["line 6"]

    def test_a_large_flow_is_read_from_its_beginning(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        root = story.begin(created=EPOCH)
        runs = [story.done(inside=root, created=EPOCH + number // 3) for number in range(5_000)]
        story.write()
        with reading(database) as reader:
            assert [run.id for run in reader.inside(root.id)] == [run.id for run in runs]

    # --- forgetting ---

    def test_a_deleted_run_takes_all_that_is_inside(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        kept = flow_with_everything(story)
        story.write()
        gone = flow_with_everything(story)
        rows = story.group.runs
        story.write()
        with reading(database) as reader:
            doomed = [gone, *reader.inside(gone.id)]
            before = everything(reader, kept)
            assert writer.delete([gone.id]) == len(doomed)
            assert [reader.run(run.id) for run in doomed] == [None] * len(doomed)
            assert everything(reader, kept) == before
            assert [run.id for run in reader.runs(RunQuery(tag="both", kind=None))] == [kept.id]
            assert writer.delete([gone.id]) == 0
            # What was left of them would be seen if they came back.
            writer.write(Group(runs=[(*row[:_TAGS], None, *row[_TAGS + 1 :]) for row in rows]))
            again = [gone, *reader.inside(gone.id)]
            assert len(again) == len(doomed)
            assert not reader.logs(gone.id)
            assert {state.name for run in again for state in reader.states(run.id)} <= {
                "Pending",
                "Running",
                "Completed",
            }
            assert [(run.entrypoint, run.inputs) for run in again[1:]] == [(None, None)] * len(again[1:])
            assert [run.id for run in reader.runs(RunQuery(tag="both", kind=None))] == [kept.id]

    def test_values_belong_to_the_run_that_alone_refers_to_them(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        first, second = story.done(), story.done()
        for root, keys in ((first, "abcc"), (second, "cd")):
            for key in keys:
                stored = {"url": "file:///x", "key": key, "size": 1, "type": "int", "checksum": "1"}
                story.result(story.done(inside=root), result=stored, cached=key == "c")
        story.result(second, result={"url": "s3://y", "key": "a", "size": 1, "type": "int", "checksum": "1"})
        story.result(story.done(inside=second), inputs="only known what goes in")
        story.write()
        with reading(database) as reader:
            assert sorted(reader.values_of(first.id)) == [("file:///x", "a"), ("file:///x", "b")]
            assert sorted(reader.values_of(second.id)) == [("file:///x", "d"), ("s3://y", "a")]
            writer.delete([first.id])
            assert reader.values_of(first.id) == []
            assert sorted(reader.values_of(second.id)) == [("file:///x", "c"), ("file:///x", "d"), ("s3://y", "a")]

    def test_what_is_not_over_is_not_deleted(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        root = story.begin()
        task = story.done(inside=root)
        story.write()
        assert writer.delete([root.id, task.id, UUID(int=next_id())]) == 0
        with reading(database) as reader:
            assert reader.run(root.id) == root
            assert reader.run(task.id) == task

    def test_what_is_too_old_too_many_or_too_much_is_named(self, database: Database, writer: Writer) -> None:
        now = time.time()
        story = Story(writer)
        roots = [story.done(created=now - 1000 * (10 - number)) for number in range(10)]
        for root in roots:
            for _ in range(100):
                story.done(inside=root)
        story.begin(created=now - 20_000)
        story.write()
        ids = [root.id for root in roots]
        with reading(database) as reader:
            assert reader.expired(age=None, count=None, size=None) == []
            assert reader.expired(age=5500, count=None, size=None) == ids[:5]
            assert reader.expired(age=None, count=4, size=None) == ids[:6]
            assert reader.expired(age=5500, count=4, size=None) == ids[:6]
            assert reader.expired(age=None, count=10, size=1 << 40) == []
            assert reader.expired(age=None, count=None, size=1) == ids

    def test_a_history_can_be_brought_up_to_date_at_any_time(self, database: Database) -> None:
        version = database.migrate()
        writer = database.open_writer(prefix(), "full")
        (root,) = record_runs(writer, 1, 3)
        assert database.migrate() == version
        writer.compact()
        (more,) = record_runs(writer, 1, 3)
        writer.close()
        writer.close()
        with reading(database) as reader:
            assert [len(list(reader.inside(run))) for run in (root, more)] == [3, 3]
            assert reader.facts()["task_runs"] == 6

    def _reap(self, writer: Writer) -> list[UUID]:
        """Reap until something is found."""
        deadline = time.monotonic() + self.patience
        while not (roots := list(writer.reap())):
            assert time.monotonic() < deadline, "a dead process was not noticed"
            time.sleep(0.05)
        return roots


@contextmanager
def reading(database: Database) -> Generator[Reader, None, None]:
    """A reader for the block."""
    reader = database.open_reader()
    try:
        yield reader
    finally:
        reader.close()


def everything(reader: Reader, root: RunRecord) -> list[object]:
    """All that a history knows of a root run."""
    runs = [reader.run(root.id), *reader.inside(root.id)]
    return [runs, [reader.states(run.id) for run in runs if run], reader.logs(root.id)]


def flow_with_everything(story: Story) -> RunRecord:
    """A flow run that has rows in every table."""
    root = story.flow(story.done(tags=("both",)), entrypoint="a:b", resumes=UUID(int=next_id()))
    for _ in range(3):
        task = story.result(story.done(inside=root, tags=("x",)), inputs="in")
        story.state(task, 2, "RUNNING", "Special")
        story.log(task, "a line")
    return root


def leave_unfinished(writer: Writer) -> list[UUID]:
    """Record two flow runs that go on, with one task run inside that has ended and two that go on."""
    story = Story(writer)
    roots = [story.begin() for _ in range(2)]
    for root in roots:
        story.done(inside=root)
        story.begin(inside=root)
        story.begin(inside=root, started=None, type="PENDING", state="Pending", sequence=1, attempts=0)
    story.write()
    return [root.id for root in roots]


def nested_run(writer: Writer, run_id: int) -> tuple[UUID, UUID]:
    """Record a run that came home from a worker, under an id that the worker gave it."""
    story = Story(writer)
    root = story.done()
    nested = story.done(inside=root, id=UUID(int=run_id))
    story.write()
    return root.id, nested.id


def reap(writer: Writer) -> list[UUID]:
    """What the writer finds."""
    return list(writer.reap())


def ask_to_cancel(writer: Writer, run_id: UUID) -> bool:
    """Ask through the writer."""
    return writer.ask_to_cancel(run_id)


def to_cancel(writer: Writer) -> list[UUID]:
    """What the writer is asked."""
    return list(writer.to_cancel())
