"""What a test asks of a history's file behind the history's back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
