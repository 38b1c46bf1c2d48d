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

from collections.abc import Iterator

import pytest

from penstock_history.database import Database, Writer
from penstock_history.testing.forgetting import ForgettingTests
from penstock_history.testing.processes import ProcessTests
from penstock_history.testing.questions import QuestionTests
from penstock_history.testing.records import RecordTests
from penstock_history.testing.writing import WritingTests

__all__ = ("HistoryTests",)


class HistoryTests(RecordTests, WritingTests, ProcessTests, QuestionTests, ForgettingTests):
    """Inherit this, provide the fixture ``database``, a history that is empty and nobody else's, and write `lose`."""

    @pytest.fixture
    def writer(self, database: Database) -> Iterator[Writer]:
        """This process's writer."""
        writer = database.open_writer("fast")
        yield writer
        writer.close()
