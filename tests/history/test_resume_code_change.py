"""Resuming with other code than began: refused by name, or continued with what is still valid; by real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PROGRAM = """
    from pathlib import Path

    from penstock import flow, task

    def note(line):
        with Path(__file__).with_suffix(".log").open("a") as log:
            log.write(line + "\\n")

    @task
    def first():
        note("first")
        return 1

    @task
    def second():
        note("second")
        return 10

    @flow(persist_result=True)
    def program():
        total = first() + second()
        if Path(__file__).with_suffix(".broken").exists():
            raise OSError("broken")
        return total
"""


class Project:
    """A script, a home, and the command in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "program.py"
        self.broken = folder / "program.broken"
        self.home = folder / "home"
        self.script.write_text(dedent(PROGRAM))
        self.broken.touch()

    def penstock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("PENSTOCK_", "PYTEST_"))}
        return subprocess.run(
            [sys.executable, "-m", "penstock", *arguments],
            env={**ours, "PENSTOCK_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=90,
        )

    def change(self, old: str, new: str) -> None:
        text = self.script.read_text()
        assert old in text
        self.script.write_text(text.replace(old, new))

    def executed(self) -> list[str]:
        return self.script.with_suffix(".log").read_text().split()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A flow whose two tasks have completed and which then failed."""
    project = Project(tmp_path)
    assert project.penstock("run", f"{project.script}:program").returncode == 1
    assert project.executed() == ["first", "second"]
    project.broken.unlink()
    return project


def name_of_run(project: Project) -> str:
    [run] = json.loads(project.penstock("runs", "ls", "--json").stdout)
    return str(run["name"])


def test_unchanged_code_executes_nothing_again(project: Project) -> None:
    done = project.penstock("runs", "resume", name_of_run(project), "--json")
    assert done.returncode == 0, done.stderr
    assert project.executed() == ["first", "second"]


def test_changed_code_is_refused_by_name(project: Project) -> None:
    project.change("return 10", "return 20")
    done = project.penstock("runs", "resume", name_of_run(project))
    assert done.returncode == 4, done
    assert "second" in done.stderr
    assert "continue" in done.stderr
    assert project.executed() == ["first", "second"]


def test_what_is_still_valid_is_kept_when_that_was_asked_for(project: Project) -> None:
    project.change("return 10", "return 20")
    done = project.penstock("runs", "resume", name_of_run(project), "--on-code-change", "continue")
    assert done.returncode == 0, done.stderr
    assert "Completed" in done.stdout
    assert project.executed() == ["first", "second", "second"]


def test_a_flow_that_was_renamed_is_named(project: Project) -> None:
    project.change("def program():", "def other():")
    done = project.penstock("runs", "resume", name_of_run(project))
    assert done.returncode == 2, done
    assert "program" in done.stderr
