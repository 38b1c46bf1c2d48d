# ruff: noqa: D102 (the name of a test says what it checks)
"""Questions and their answers."""

from __future__ import annotations

import random  # noqa: TID251 (many runs, some alike)
from dataclasses import replace

from penstock_history.database import Database, Writer
from penstock_history.records import RunQuery
from penstock_history.testing.oracle import fits, many_queries, many_runs
from penstock_history.testing.probes import EPOCH, Story, reading

__all__ = ("QuestionTests",)


class QuestionTests:
    """Part of `HistoryTests`."""

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
