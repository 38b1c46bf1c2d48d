# ruff: noqa: D102 (the name of a test says what it checks)
"""What is deleted is gone with all that belongs to it, and nothing else is."""

from __future__ import annotations

import time  # noqa: TID251 (how old a run is)
from uuid import UUID

from penstock.names import next_id
from penstock_history.database import Database, Writer
from penstock_history.records import RUNS, Group, RunQuery, RunRecord
from penstock_history.testing.probes import Story, everything, reading, record_runs

__all__ = ("ForgettingTests",)


_TAGS = RUNS.index("tags")


class ForgettingTests:
    """Part of `HistoryTests`."""

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
        writer = database.open_writer("full")
        (root,) = record_runs(writer, 1, 3)
        assert database.migrate() == version
        writer.compact()
        (more,) = record_runs(writer, 1, 3)
        writer.close()
        writer.close()
        with reading(database) as reader:
            assert [len(list(reader.inside(run))) for run in (root, more)] == [3, 3]
            assert reader.facts()["task_runs"] == 6


def flow_with_everything(story: Story) -> RunRecord:
    """A flow run that has rows in every table."""
    root = story.flow(story.done(tags=("both",)), entrypoint="a:b", resumes=UUID(int=next_id()))
    for _ in range(3):
        task = story.result(story.done(inside=root, tags=("x",)), inputs="in")
        story.state(task, 2, "RUNNING", "Special")
        story.log(task, "a line")
    return root
