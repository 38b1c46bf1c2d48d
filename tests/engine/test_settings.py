"""Where defaults come from, and which of the places wins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.settings import home, settings, truth

ASK = """
import sys
from penstock.settings import settings, truth
print(settings("task_retries", int, 0), settings("persist_results", truth, False), "tomllib" in sys.modules)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder, in which programs are started; Penstock's home is beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "project" / "deep").mkdir(parents=True)
    return tmp_path / "project"


def ask(folder: Path, **variables: str) -> str:
    """What a program that is started in a folder finds."""
    environment = {**os.environ, "PENSTOCK_HOME": str(folder.parent / "home"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=folder / "deep", env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_without_files_there_are_the_defaults(folder: Path) -> None:
    assert ask(folder) == "0 False False"


def test_the_environment_wins_over_the_project_and_that_over_the_home(folder: Path) -> None:
    (folder.parent / "home" / "config.toml").write_text("task_retries = 1\npersist_results = true\n")
    assert ask(folder) == "1 True True"
    (folder / "pyproject.toml").write_text("[tool.penstock]\ntask_retries = 2\n")
    assert ask(folder) == "2 True True"
    assert ask(folder, PENSTOCK_TASK_RETRIES="3", PENSTOCK_PERSIST_RESULTS="no") == "3 False True"
    assert ask(folder, PENSTOCK_TASK_RETRIES="") == "2 True True"


def test_a_project_that_says_nothing_is_not_even_parsed(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\nthis is no TOML\n")
    assert ask(folder) == "0 False False"


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.penstock]\ntask_retries = 'many'\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ask(folder)
    assert f"task_retries in {folder / 'pyproject.toml'} is 'many'" in failed.value.stderr
    (folder / "pyproject.toml").write_text("[tool.penstock\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ask(folder)
    assert f"The settings in {folder / 'pyproject.toml'} cannot be read" in failed.value.stderr


def test_a_variable_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PERSIST_RESULTS", "perhaps")
    with pytest.raises(ConfigurationError, match="PENSTOCK_PERSIST_RESULTS is 'perhaps': give true or false"):
        settings("persist_results", truth, False)


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", "~/somewhere")
    assert home() == Path("~/somewhere").expanduser()
    monkeypatch.delenv("PENSTOCK_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    if sys.platform == "linux":
        assert home() == Path("/var/state/penstock")
