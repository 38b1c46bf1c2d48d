"""Getting at a PostgreSQL database: what is wrong is said in one sentence, with what to do, and without a password."""

from __future__ import annotations

import re
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from networks import Network, network
from postgres import PASSWORD, Server

from penstock.errors import ConfigurationError, HistoryError
from penstock_history.database import Database
from penstock_history.postgresql.database import PostgreSQL
from penstock_history.postgresql.listing import list_runs
from penstock_history.postgresql.schema import VERSION
from penstock_history.records import TYPES, RunQuery
from penstock_history.testing.probes import Story
from penstock_history.urls import open_database


def refusal(database: Database) -> str:
    """What is said when a history is opened, to write and to read; it must be the same."""
    said = set[str]()
    for open_it in (lambda: database.open_writer("fast"), database.open_reader, database.migrate):
        with pytest.raises(HistoryError) as caught:
            open_it()
        said.add(str(caught.value))
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert len(said) == 1, said
    return said.pop()


def test_a_password_that_is_wrong(postgresql_server: Server) -> None:
    said = refusal(PostgreSQL(postgresql_server.url(password=f"{PASSWORD}x")))
    assert "password authentication failed" in said
    assert "PGPASSWORD" in said
    assert f"postgresql://127.0.0.1:{postgresql_server.port}/postgres" in said


def test_no_server(postgresql_server: Server) -> None:
    with network(postgresql_server.port) as carrier:
        port = carrier.port
    said = refusal(PostgreSQL(f"postgresql://somebody:{PASSWORD}@127.0.0.1:{port}/history"))
    assert "Start the server" in said


def test_a_server_that_does_not_answer(postgresql_server: Server) -> None:
    with network(postgresql_server.port) as carrier:
        carrier.rewrite = lambda data: b""
        said = refusal(PostgreSQL(carrier.url(postgresql_server.url()), patience=0.2))
    assert "no answer came for 0.2 s" in said


def test_a_database_that_is_missing(postgresql_server: Server) -> None:
    said = refusal(PostgreSQL(postgresql_server.url("nowhere")))
    assert 'database "nowhere" does not exist' in said
    assert "createdb" in said


def test_a_server_that_is_too_old(postgresql_server: Server, postgresql_url: str) -> None:
    (version,) = postgresql_server.sql("SHOW server_version")
    with network(postgresql_server.port) as carrier:
        carrier.rewrite = lambda data: data.replace(f"\0{version}\0".encode(), f"\0{'9.6':{len(version)}}\0".encode())
        said = refusal(PostgreSQL(carrier.url(postgresql_url)))
    assert "PostgreSQL 9.6" in said
    assert "15 or later" in said


@pytest.fixture
def latin(postgresql_server: Server) -> Iterator[str]:
    postgresql_server.sql("CREATE DATABASE latin ENCODING latin1 LOCALE 'C' TEMPLATE template0")
    yield postgresql_server.url("latin")
    postgresql_server.sql("DROP DATABASE latin")


def test_a_database_that_cannot_keep_every_text(latin: str) -> None:
    said = refusal(PostgreSQL(latin))
    assert "LATIN1" in said
    assert "createdb --encoding UTF8" in said


@pytest.fixture
def guest(postgresql_server: Server, postgresql_url: str) -> Iterator[str]:
    """The URL for a user who may do nothing but connect."""
    name = postgresql_url.rpartition("/")[2]
    postgresql_server.sql(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    yield postgresql_server.url(name, "guest")
    postgresql_server.sql("DROP OWNED BY guest; DROP ROLE guest", name)


def test_a_user_who_may_not_make_the_schema(postgresql_server: Server, guest: str) -> None:
    database = PostgreSQL(guest)
    with pytest.raises(HistoryError, match="CREATE SCHEMA penstock AUTHORIZATION"):
        database.open_writer("fast")
    postgresql_server.sql("CREATE SCHEMA penstock AUTHORIZATION guest", guest.rpartition("/")[2])
    writer = database.open_writer("fast")
    writer.close()


def test_a_schema_of_a_later_version(postgresql_server: Server, postgresql_url: str) -> None:
    database = PostgreSQL(postgresql_url)
    database.migrate()
    postgresql_server.sql(f"INSERT INTO penstock.steps VALUES ({VERSION + 1})", postgresql_url.rpartition("/")[2])
    said = refusal(database)
    assert f"version {VERSION + 1}" in said
    assert "Upgrade Penstock" in said


def test_a_server_without_tls_where_it_is_demanded(postgresql_url: str) -> None:
    assert "rejected SSL upgrade" in refusal(PostgreSQL(f"{postgresql_url}?sslmode=require"))


@pytest.fixture
def encrypted(postgresql_server: Server, tmp_path: Path) -> Iterator[Network]:
    """A way to the server with a certificate for localhost, whose authority is in ``authority.pem``."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "another.pem")
    with network(postgresql_server.port) as carrier:
        carrier.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(carrier.tls)
        yield carrier


def test_a_server_with_a_certificate_that_is_trusted(encrypted: Network, postgresql_url: str, tmp_path: Path) -> None:
    url = encrypted.url(postgresql_url).replace("127.0.0.1", "localhost")
    assert PostgreSQL(f"{url}?sslmode=verify-full&sslrootcert={tmp_path / 'authority.pem'}").migrate() == VERSION


@pytest.mark.parametrize(("host", "authority"), [("localhost", "another.pem"), ("127.0.0.1", "authority.pem")])
def test_a_server_with_a_certificate_that_is_not_trusted(
    encrypted: Network, postgresql_url: str, tmp_path: Path, host: str, authority: str
) -> None:
    url = encrypted.url(postgresql_url).replace("127.0.0.1", host)
    said = refusal(PostgreSQL(f"{url}?sslmode=verify-full&sslrootcert={tmp_path / authority}"))
    assert "certificate verify failed" in said
    assert "sslrootcert" in said


def test_an_option_that_there_is_not(postgresql_url: str) -> None:
    with pytest.raises(ConfigurationError, match="sslmode") as caught:
        PostgreSQL(f"{postgresql_url}?sslmode=sometimes").migrate()
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{PASSWORD}/x@host/name",
        f"postgresql://me:{PASSWORD}#x@host/name",
        f"postgresql://me:{PASSWORD}?x@host/name",
        f"postgresql://me:{PASSWORD}",
        f"postgresql://me:{PASSWORD}@[host/name",
        f"postgresql://:{PASSWORD}/name",
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        PostgreSQL(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_a_scheme_that_is_misspelt_gives_no_password_away() -> None:
    with pytest.raises(ConfigurationError, match="postgressql") as caught:
        open_database(f"postgressql://me:{PASSWORD}@host/name")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{PASSWORD}@host/name", "postgresql://host/name"),
        (f"postgres://me:{PASSWORD}@host:5433/name?sslmode=require&password={PASSWORD}", "postgresql://host:5433/name"),
        (f"postgresql://me:{PASSWORD}%40%2F@one:1,two:2/name", "postgresql://one:1,two:2/name"),
        (f"postgresql://me:{PASSWORD}@[::1]:5432/name", "postgresql://[::1]:5432/name"),
        (f"postgresql:///name?user=me&host=/run&password={PASSWORD}", "postgresql:///name?host=/run"),
    ],
)
def test_a_url_is_shown_without_what_lets_anybody_in(url: str, shown: str) -> None:
    database = open_database(url)
    assert database.url == shown
    assert repr(database) == f"PostgreSQL({shown!r})"


async def test_a_history_can_be_read_where_a_loop_runs(postgresql_url: str) -> None:
    database = PostgreSQL(postgresql_url)
    writer = database.open_writer("fast")
    story = Story(writer)
    run = story.done()
    story.write()
    reader = database.open_reader()
    assert reader.runs(RunQuery()) == [run]
    reader.close()
    writer.close()


def test_whoever_reads_cannot_write(postgresql_url: str) -> None:
    database = PostgreSQL(postgresql_url)
    database.migrate()
    reader = database.open_reader()
    with pytest.raises(HistoryError, match="read-only transaction"):
        reader._session.call(lambda connection: connection.execute("DELETE FROM penstock.runs"))
    reader.close()


def test_a_nul_is_replaced_and_what_looks_like_one_is_kept(postgresql_url: str) -> None:
    database = PostgreSQL(postgresql_url)
    writer = database.open_writer("fast")
    story = Story(writer)
    odd = story.done(message="a\0b\\u0000c\\\0d\\")
    story.write()
    writer.close()
    reader = database.open_reader()
    found = reader.run(odd.id)
    reader.close()
    assert found
    assert found.message == "a\ufffdb\\u0000c\\\ufffdd\\"


class Explaining:
    """A connection that explains what it is asked for instead of doing it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, query: str, *values: Any) -> list[str]:
        return [row[0] for row in await self._connection.fetch(f"EXPLAIN {query}", *values)]


@pytest.mark.parametrize(
    ("states", "indexes"),
    [
        (["Cached"], {"runs_by_state_name"}),
        (["FAILED"], {"runs_by_state"}),
        (["FAILED", "TimedOut"], {"runs_by_state_name", "runs_by_state"}),
    ],
)
def test_a_few_runs_of_many_are_found_by_the_name_of_their_state(
    postgresql_server: Server, postgresql_url: str, states: list[str], indexes: set[str]
) -> None:
    database, name = PostgreSQL(postgresql_url), postgresql_url.rpartition("/")[2]
    database.migrate()
    completed = TYPES.index("COMPLETED")
    postgresql_server.sql(
        "INSERT INTO penstock.runs "
        "(id, root, created, position, sequence, attempt, type, kind, definition, name, state) "
        f"SELECT id, id, id, 0, 1, 1, {completed}, 1, 'step', 'step-1', CASE WHEN id % 10000 = 0 THEN 'Cached' END "
        "FROM generate_series(1, 100000) AS id",
        name,
    )
    postgresql_server.sql("ANALYZE penstock.runs", name)
    reader = database.open_reader()
    query = RunQuery(kind="task", states=states)
    plan = reader._session.call(lambda connection: list_runs(Explaining(connection), query))  # type: ignore[arg-type]
    reader.close()
    assert set(re.findall(r"\bruns_by_\w+", "\n".join(plan))) == indexes, "\n".join(plan)
