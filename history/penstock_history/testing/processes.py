# ruff: noqa: D102 (the name of a test says what it checks)
"""Several processes record side by side, are killed, stand still, leave, and are told to cancel."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import pytest

from penstock.errors import OwnerLost
from penstock.names import next_id
from penstock_history.database import Database, Writer
from penstock_history.records import RunQuery
from penstock_history.testing.probes import Companion, Story, buried, reading, record_runs

__all__ = ("ProcessTests",)


class ProcessTests:
    """Part of `HistoryTests`.

    Attributes:
        patience: Seconds after which a process that was killed must be known to be dead.
    """

    patience = 60.0

    # Not an abstract method: pytest leaves abstract classes out without a word, and an heir would test nothing.
    def lose(self, database: Database, writer: Writer) -> None:
        """Make other processes take a writer's process for dead, though it lives."""
        raise NotImplementedError(f"{type(self).__name__}.lose")

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
            assert set(buried(writer.reap, self.patience)) == set(roots)
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
            assert set(buried(writer.reap, self.patience)) == set(roots)

    def test_who_was_taken_for_dead_writes_no_more(self, database: Database, writer: Writer) -> None:
        story = Story(writer)
        run = story.begin()
        story.write()
        self.lose(database, writer)
        with Companion(database) as companion:
            assert buried(partial(companion.do, reap), self.patience) == [run.id]
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
