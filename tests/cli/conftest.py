"""The command as a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
        variables: What its environment has besides.
    """

    home: Path
    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment: nothing of Penstock's or of pytest's but what is said here."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("PENSTOCK_", "PYTEST_"))}
        return {**ours, "PENSTOCK_HOME": str(self.home), "TZ": "UTC", **self.variables}

    @contextmanager
    def start(self, *arguments: object, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start it; it does not outlive the block."""
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
        with self.start(*arguments, cwd=cwd) as process:
            out, err = process.communicate(timeout=60)
        return Answer(process.returncode, out, err)

    def on_terminal(self, *arguments: object, columns: int = 120) -> str:
        """Execute it in a terminal of that width, and give what it wrote there."""
        ours, theirs = pty.openpty()
        environment = {**self.environment, "COLUMNS": str(columns), "TERM": "xterm-256color"}
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", *map(str, arguments)],
            env=environment,
            cwd=self.home,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                written += chunk
        except OSError:  # Linux says so when the other side is closed
            pass
        finally:
            os.close(ours)
            process.wait(60)
        return written.decode().replace("\r\n", "\n")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of the test's own."""
    return tmp_path


@pytest.fixture
def penstock(home: Path) -> Command:
    """The command, with a home of the test's own."""
    return Command(home, {})


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command, with a home in which three flows have been run; only look at it."""
    command = Command(tmp_path_factory.mktemp("recorded"), {})
    assert command("run", f"{FLOWS}:squares").code == 0
    assert command("run", f"{FLOWS}:wobbly", "-p", "n=20").code == 1
    assert command("run", f"{FLOWS}:squares", "-p", "n=2").code == 0
    return command


@pytest.fixture(scope="session")
def flows() -> Callable[[str], str]:
    """Says how a flow or task of the script is named on the command line."""
    return lambda name: f"{FLOWS}:{name}"
