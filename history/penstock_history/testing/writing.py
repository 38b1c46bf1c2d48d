# ruff: noqa: D102 (the name of a test says what it checks)
"""Groups are written whole or not at all, and again without harm."""

from __future__ import annotations

from uuid import UUID

import pytest

from penstock.errors import ResumeConflict
from penstock.names import next_id
from penstock_history.database import Database, Writer
from penstock_history.records import Group
from penstock_history.testing.probes import Story, everything, reading

__all__ = ("WritingTests",)


class WritingTests:
    """Part of `HistoryTests`."""

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
