"""A newcomer's program: a script in a process of its own, with a home folder of its own and nothing else set.

An answer is the end of what the script writes to standard error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest


@dataclass(frozen=True)
class Program:
    """What a newcomer wrote.

    Attributes:
        text: The script.
        answer: A pattern that the last line of standard error has to match; None for a script that works.
        prints: What a script that works prints.
        says: What else stands somewhere in standard error.
        environment: What the newcomer set.
    """

    text: str
    answer: str | None = None
    prints: str = ""
    says: str = ""
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def check(self, folder: Path, extra: dict[str, str] | None = None) -> None:
        """Run it, and see whether it gives its answer, or works."""
        done = run_script(self.text, folder, {**self.environment, **(extra or {})})
        assert self.says in done.stderr
        if self.answer is None:
            assert done.returncode == 0, done.stderr
            assert sorted(done.stdout.split("\n")) == sorted([*self.prints.split("\n"), ""])
        else:
            assert done.returncode == 1, done.stderr
            last = done.stderr.strip().splitlines()[-3:]
            assert any(re.match(rf"(penstock\.errors\.)?({self.answer})", line) for line in last), done.stderr


def run_script(text: str, folder: Path, extra: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    process = start(write(text, folder), folder, extra)
    try:
        output, errors = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        pytest.fail(f"the program hangs:\n{output}\n{errors}")
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def write(text: str, folder: Path) -> Path:
    """Put a script into a file."""
    path = folder / "program.py"
    path.write_text(dedent(text))
    return path


def start(path: Path, folder: Path, extra: dict[str, str]) -> subprocess.Popen[str]:
    """Run a script as a newcomer does."""
    return subprocess.Popen(
        [sys.executable, path],
        env=environment(folder, extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(folder: Path, extra: dict[str, str]) -> dict[str, str]:
    """A newcomer's environment: nothing is set but the home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PYTEST_"))}
    return {**kept, "PENSTOCK_HOME": str(folder / "home"), **extra}
