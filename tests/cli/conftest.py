"""The command as a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from forked_command import Forks, forking

FLOWS = Path(__file__).parents[1] / "support" / "command_flows.py"
"""The script whose flows the tests run."""


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        assert self.code == 0, self
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """The command ``penstock`` with a home.

    Attributes:
        home: Its home, where its history and its results lie.
        forks: Executes it quickly.
        variables: What its environment has besides.
    """

    home: Path
    forks: Forks
    variables: Mapping[str, str] = field(default_factory=dict)

    def given(self, **variables: str) -> Command:
        """The command with these variables in its environment."""
        return replace(self, variables=variables)

    @property
    def environment(self) -> dict[str, str]:
        """Its environment: nothing of Penstock's or of pytest's but what is said here."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("PENSTOCK_", "PYTEST_"))}
        return {**ours, "PENSTOCK_HOME": str(self.home), "TZ": "UTC", **self.variables}

    @contextmanager
    def start(self, *arguments: object, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start it from nothing; it does not outlive the block."""
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", *map(str, arguments)],
            env=self.environment,
            cwd=cwd or self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def __call__(self, *arguments: object, cwd: Path | None = None) -> Answer:
        """Execute it to its end."""
        with TemporaryFile() as out, TemporaryFile() as err, open(os.devnull) as nothing:
            files = [nothing.fileno(), out.fileno(), err.fileno()]
            self.forks.begin([*map(str, arguments)], self.environment, cwd or self.home, files)
            code = self.forks.end()
            out.seek(0)
            err.seek(0)
            return Answer(code, out.read().decode(), err.read().decode())

    def on_terminal(self, *arguments: object, columns: int = 120) -> str:
        """Execute it in a terminal of that width, and give what it wrote there."""
        ours, theirs = pty.openpty()
        environment = {**self.environment, "COLUMNS": str(columns), "TERM": "xterm-256color"}
        self.forks.begin([*map(str, arguments)], environment, self.home, [theirs] * 3)
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                written += chunk
        except OSError:  # Linux says so when the other side is closed
            pass
        finally:
            os.close(ours)
            self.forks.end()
        return written.decode().replace("\r\n", "\n")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of the test's own."""
    return tmp_path


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The process that all commands are forked from."""
    with forking() as forks:
        yield forks


@pytest.fixture
def penstock(home: Path, forks: Forks) -> Command:
    """The command, with a home of the test's own."""
    return Command(home, forks)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Command:
    """The command, with a home in which three flows have been run; only look at it."""
    command = Command(tmp_path_factory.mktemp("recorded"), forks)
    assert command("run", f"{FLOWS}:squares").code == 0
    assert command("run", f"{FLOWS}:wobbly", "-p", "n=20").code == 1
    assert command("run", f"{FLOWS}:squares", "-p", "n=2").code == 0
    return command


@pytest.fixture(scope="session")
def flows() -> Callable[[str], str]:
    """Says how a flow or task of the script is named on the command line."""
    return lambda name: f"{FLOWS}:{name}"
