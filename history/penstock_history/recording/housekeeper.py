"""The thread that parts with the past while a program goes on, where the history is to keep only so much.

Stored values are deleted here, because a store may take its time; rows by the scribe, because one connection writes.
The room that they leave is used again, so that the file grows no further; `penstock history vacuum` gives it back.
"""

from __future__ import annotations

import threading  # noqa: TID251 (this is the housekeeper's thread)
from contextlib import closing

from penstock.errors import HistoryError
from penstock.logging import engine_logger
from penstock_history.database import Database
from penstock_history.retention import Deletes, Retention, part_with_the_past

__all__ = ("Housekeeper",)

_PAUSE = 60.0
"""Seconds between two looks; one takes some milliseconds (benchmarks/history.py)."""


class Housekeeper:
    """Looks when a program begins to record, and every minute from then on.

    Args:
        database: The history.
        retention: How much is kept.
        writer: Deletes the rows.
    """

    def __init__(self, database: Database, retention: Retention, writer: Deletes) -> None:
        self._database = database
        self._retention = retention
        self._writer = writer
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="penstock-housekeeper", daemon=True)

    def start(self) -> None:
        """Begin, once there is a database."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Leave when the run that is being deleted is gone."""
        self._leaving.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _serve(self) -> None:
        while True:  # once at least: of many short programs each parts with one run, which makes up for its own
            try:
                self._tidy()
            except HistoryError as error:
                engine_logger.warning("The history %s was not tidied: %s", self._database.url, error)
            if self._leaving.wait(_PAUSE):
                return

    def _tidy(self) -> None:
        with closing(self._database.open_reader()) as reader:
            for _ in part_with_the_past(reader, self._writer, self._retention):
                if self._leaving.is_set():
                    return
