"""The tables of a history in PostgreSQL, as the steps that lead to them.

They are in a schema of their own, ``penstock``; its table ``steps`` says which steps it has taken. A step is one
transaction that ends by counting itself, and whoever takes one holds a lock that all who want to take one wait for. So
a process that dies in it leaves the schema as it was, and of many that start at once one goes ahead. Steps are never
changed once they are released: schemas that took them are out there.

The tables are those of SQLite (`penstock_history.sqlite.schema`), but that texts stand where they belong, and that an
owner has a lease. No index begins with the definition: it would cost a third of the time that writing takes, to find
rare tasks faster than by the time at which they were made.
"""

from __future__ import annotations

from penstock.errors import HistoryError
from penstock_history.keys import COUNTER_BITS, COUNTER_MASK
from penstock_history.postgresql.connection import Connection
from penstock_history.records import TYPES

__all__ = (
    "APPLICATION",
    "COMPLETED",
    "CRASHED",
    "FIRST_KEY",
    "LAST_KEY",
    "VERSION",
    "bring_up_to_date",
    "version_of",
)

APPLICATION = 0x50_53_48_31
"""The first half of the keys of all advisory locks of histories; the second is an owner's number, or 0 for a step."""

COMPLETED, CRASHED = TYPES.index("COMPLETED"), TYPES.index("CRASHED")

FIRST_KEY = f"(number::bigint << {COUNTER_BITS})"
LAST_KEY = f"({FIRST_KEY} + {COUNTER_MASK})"
"""The keys that belong to the number of a prefix, a row of ``prefixes``, are between these."""

_OLDEST = 15
"""Of what was supported by its makers when this was written, the oldest."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE penstock.owners (
            id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            pid bigint NOT NULL,
            host text NOT NULL,
            place text,
            started double precision NOT NULL,
            lease double precision NOT NULL,
            renewed timestamptz NOT NULL,
            ended double precision,
            lost double precision
        )""",
        """CREATE TABLE penstock.prefixes (
            number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            owner integer NOT NULL,
            prefix bytea NOT NULL,
            UNIQUE (owner, prefix)
        )""",
        "CREATE INDEX prefixes_by_prefix ON penstock.prefixes (prefix)",
        """CREATE TABLE penstock.runs (
            id bigint PRIMARY KEY,
            parent bigint,
            root bigint NOT NULL,
            created double precision NOT NULL,
            started double precision,
            ended double precision,
            seconds double precision,
            position integer NOT NULL,
            sequence integer NOT NULL,
            attempt integer NOT NULL,
            type smallint NOT NULL,
            kind smallint NOT NULL,
            definition text COLLATE "C" NOT NULL,
            name text COLLATE "C" NOT NULL,
            state text COLLATE "C",
            message text,
            worker text,
            tags text[]
        )""",
        "CREATE INDEX runs_by_time ON penstock.runs (created)",
        "CREATE INDEX runs_by_root ON penstock.runs (root, created, id)",
        "CREATE INDEX flow_runs_by_time ON penstock.runs (created) WHERE kind = 0",
        f"CREATE INDEX runs_by_state ON penstock.runs (type, created) WHERE type <> {COMPLETED}",
        "CREATE INDEX runs_by_state_name ON penstock.runs (upper(state), created) WHERE state IS NOT NULL",
        "CREATE INDEX runs_by_tag ON penstock.runs USING gin (tags) WHERE tags IS NOT NULL",
        """CREATE TABLE penstock.states (
            run bigint NOT NULL,
            sequence integer NOT NULL,
            type smallint NOT NULL,
            name text,
            message text,
            time double precision NOT NULL,
            attempt integer NOT NULL,
            due double precision,
            worker text,
            seconds double precision,
            PRIMARY KEY (run, sequence)
        )""",
        """CREATE TABLE penstock.flows (
            run bigint PRIMARY KEY,
            entrypoint text,
            parameters text,
            code text,
            version text,
            resumes text CONSTRAINT flows_by_resumes UNIQUE
        )""",
        """CREATE TABLE penstock.results (
            run bigint PRIMARY KEY,
            url text,
            key text,
            size bigint,
            type text,
            checksum text,
            inputs text,
            code text,
            cached boolean NOT NULL
        )""",
        "CREATE INDEX results_by_key ON penstock.results (key) WHERE key IS NOT NULL",
        """CREATE TABLE penstock.logs (
            id bigint PRIMARY KEY,
            root bigint NOT NULL,
            run bigint NOT NULL,
            time double precision NOT NULL,
            level integer NOT NULL,
            logger text NOT NULL,
            message text NOT NULL
        )""",
        "CREATE INDEX logs_by_root ON penstock.logs (root, id)",
        """CREATE TABLE penstock.requests (
            run bigint PRIMARY KEY,
            owner integer NOT NULL,
            time double precision NOT NULL
        )""",
    ),
)

VERSION = len(_MIGRATIONS)
"""The version of the schema that this code reads and writes."""


async def version_of(connection: Connection) -> int:
    """Give the version of a database's schema; 0 if it has none.

    Raises:
        HistoryError: If the server or the database is not fit for a history, or the schema is of a later Penstock.
        asyncpg.PostgresError: If it cannot be read.
    """
    _check_server(connection)
    if await connection.fetchval("SELECT to_regclass('penstock.steps')") is None:
        return 0
    version = int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM penstock.steps"))
    if version > VERSION:
        raise HistoryError(
            f"The history in PostgreSQL was written by a later version of Penstock: its schema is version {version}, "
            f"and this one knows {VERSION}. Upgrade Penstock, or give another database."
        )
    return version


async def bring_up_to_date(connection: Connection) -> None:
    """Take the steps to the current version.

    Raises:
        HistoryError: If the server or the database is not fit for a history, or the schema is of a later Penstock.
        asyncpg.PostgresError: If a step fails; the schema is as it was before the step.
    """
    if await version_of(connection) == VERSION:
        return
    await connection.execute("SELECT pg_advisory_lock($1, 0)", APPLICATION)  # an error ends the session, and so this
    for version in range(await version_of(connection), VERSION):
        async with connection.transaction():
            await _take(connection, version)
    await connection.execute("SELECT pg_advisory_unlock($1, 0)", APPLICATION)


async def _take(connection: Connection, version: int) -> None:
    """Take the step that follows a version."""
    if version == 0:
        await _make_schema(connection)
    for statement in _MIGRATIONS[version]:
        await connection.execute(statement)
    await connection.execute("INSERT INTO penstock.steps (number) VALUES ($1)", version + 1)


async def _make_schema(connection: Connection) -> None:
    """Make the schema, unless an administrator has made it for a user that must not."""
    if await connection.fetchval("SELECT to_regnamespace('penstock')") is None:
        await connection.execute("CREATE SCHEMA penstock")
    await connection.execute(
        "CREATE TABLE penstock.steps (number integer PRIMARY KEY, taken timestamptz NOT NULL DEFAULT now())"
    )


def _check_server(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major < _OLDEST:
        raise HistoryError(
            f"The server is PostgreSQL {version.major}.{version.minor}; a history needs {_OLDEST} or later. Upgrade "
            "the server, or give another."
        )
    encoding = connection.get_settings().server_encoding
    if encoding.upper() not in ("UTF8", "UTF-8"):
        raise HistoryError(
            f"The database stores text as {encoding}, and a history needs UTF8. Create another database: "
            "createdb --encoding UTF8 --template template0 NAME."
        )
