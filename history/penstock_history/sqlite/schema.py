"""The tables of a history in SQLite, as the steps that lead to them.

A file's ``user_version`` says how many steps it has taken. A step is one transaction that ends by counting itself, so a
process that dies in it leaves the file as it was before. Steps are never changed once they are released: files that
took them are out there (tests/history/files).

What is where, and why:

* ``runs`` has everything that a listing shows, the current state included. Runs that share a definition share its name
  (``definitions``); other texts that repeat stand once in ``words``.
* ``runs_by_definition`` and ``runs_by_root`` end with the time, so that the newest runs of either come first without
  sorting. The newest of all are a merge over the definitions (`listing`), which is why no index has the time
  alone. ``runs_by_state`` leaves out COMPLETED, in which nearly all runs are, and ``runs_by_state_name`` the runs whose
  state has no name but its type's, as nearly all have: they cost those nothing.
* ``states`` has the transitions that the run's own row cannot tell; see `records.Group`.
* ``requests`` has the runs that other processes want cancelled, until their owner has taken note.
* ``logs`` are numbered by the process that wrote them, so that writing a line again is noticed without a search.
"""

from __future__ import annotations

import sqlite3

from penstock.errors import HistoryError
from penstock_history.faults import point
from penstock_history.records import TYPES

__all__ = ("APPLICATION", "COMPLETED", "CRASHED", "GOES_ON", "VERSION", "check_version", "migrate")

APPLICATION = 0x50_53_48_31
"""The file's ``application_id``: it says that a database is a history and not something else."""

COMPLETED, CRASHED = TYPES.index("COMPLETED"), TYPES.index("CRASHED")

GOES_ON = f"type < {COMPLETED} AND type <> {COMPLETED}"
"""What is true of runs that go on. The second half adds nothing but what ``runs_by_state`` says of its rows, word for
word: only so does SQLite look there."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION}",
        """CREATE TABLE owners (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            pid INTEGER NOT NULL,
            host TEXT NOT NULL,
            started REAL NOT NULL,
            ended REAL,
            lost REAL
        )""",
        """CREATE TABLE prefixes (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            owner INTEGER NOT NULL,
            prefix BLOB NOT NULL
        )""",
        "CREATE INDEX prefixes_by_prefix ON prefixes (prefix)",
        "CREATE UNIQUE INDEX prefixes_by_owner ON prefixes (owner, prefix)",
        "CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)",
        """CREATE TABLE definitions (
            id INTEGER PRIMARY KEY,
            kind INTEGER NOT NULL,
            name TEXT NOT NULL,
            UNIQUE (name, kind)
        )""",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            parent INTEGER,
            root INTEGER NOT NULL,
            definition INTEGER NOT NULL,
            name TEXT NOT NULL,
            position INTEGER NOT NULL,
            tags TEXT,
            created REAL NOT NULL,
            sequence INTEGER NOT NULL,
            type INTEGER NOT NULL,
            state TEXT,
            message TEXT,
            started REAL,
            ended REAL,
            attempt INTEGER NOT NULL,
            worker INTEGER,
            seconds REAL
        )""",
        "CREATE INDEX runs_by_definition ON runs (definition, created)",
        "CREATE INDEX runs_by_root ON runs (root, created)",
        "CREATE INDEX runs_by_time ON runs (created) WHERE parent IS NULL",
        f"CREATE INDEX runs_by_state ON runs (type, definition, created) WHERE type <> {COMPLETED}",
        """CREATE TABLE states (
            run INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            type INTEGER NOT NULL,
            name TEXT,
            message TEXT,
            time REAL NOT NULL,
            attempt INTEGER NOT NULL,
            due REAL,
            worker INTEGER,
            seconds REAL,
            PRIMARY KEY (run, sequence)
        ) WITHOUT ROWID""",
        """CREATE TABLE flows (
            run INTEGER PRIMARY KEY,
            entrypoint TEXT,
            parameters TEXT,
            code TEXT,
            version TEXT,
            resumes TEXT
        )""",
        "CREATE UNIQUE INDEX flows_by_resumes ON flows (resumes) WHERE resumes IS NOT NULL",
        """CREATE TABLE results (
            run INTEGER PRIMARY KEY,
            url INTEGER,
            key TEXT,
            size INTEGER,
            type INTEGER,
            checksum TEXT,
            inputs TEXT,
            code INTEGER,
            cached INTEGER NOT NULL
        )""",
        "CREATE INDEX results_by_key ON results (key) WHERE key IS NOT NULL",
        """CREATE TABLE tags (
            tag INTEGER NOT NULL,
            created REAL NOT NULL,
            run INTEGER NOT NULL,
            PRIMARY KEY (tag, created, run)
        ) WITHOUT ROWID""",
        """CREATE TABLE logs (
            id INTEGER PRIMARY KEY,
            root INTEGER NOT NULL,
            run INTEGER NOT NULL,
            time REAL NOT NULL,
            level INTEGER NOT NULL,
            logger INTEGER NOT NULL,
            message TEXT NOT NULL
        )""",
        "CREATE INDEX logs_by_root ON logs (root)",
        """CREATE TABLE requests (
            run INTEGER PRIMARY KEY,
            owner INTEGER NOT NULL,
            time REAL NOT NULL
        )""",
    ),
    ("CREATE INDEX runs_by_state_name ON runs (upper(state), definition, created) WHERE state IS NOT NULL",),
)

VERSION = len(_MIGRATIONS)
"""The version of the schema that this code reads and writes."""


def check_version(connection: sqlite3.Connection, path: str) -> int:
    """Give the version of a file's schema; 0 if it has none yet.

    Raises:
        HistoryError: If the database is not a history, or one of a later Penstock.
        sqlite3.Error: If it cannot be read.
    """
    # One statement, because somebody else may be making the file at this moment.
    version, application, tables = connection.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)"
        " FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if tables and application != APPLICATION:
        raise HistoryError(f"{path} is a database, but not a history of Penstock's. Give another path.")
    if version > VERSION:
        raise HistoryError(
            f"The history {path} was written by a later version of Penstock: its schema is version {version}, and this "
            f"one knows {VERSION}. Upgrade Penstock, or give another path."
        )
    return int(version)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Take the steps from a version to the current one, each in a transaction of its own.

    Args:
        connection: The connection; no other may write meanwhile.
        version: The version that the file has.

    Raises:
        sqlite3.Error: If a step fails; the file is as it was before the step.
    """
    for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in (*statements, f"PRAGMA user_version = {number}", "COMMIT"):
            point("history.migrate")
            connection.execute(statement)
