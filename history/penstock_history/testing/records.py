# ruff: noqa: D102 (the name of a test says what it checks)
"""What is written down about runs comes out again."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from penstock.names import next_id
from penstock_history.database import Database, Writer
from penstock_history.records import RunQuery
from penstock_history.testing.probes import EPOCH, Story, reading, record_runs

__all__ = ("RecordTests",)


class RecordTests:
    """Part of `HistoryTests`."""

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
            writer = database.open_writer("fast")
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
