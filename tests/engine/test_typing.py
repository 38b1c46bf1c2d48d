"""The types that users see, by the two checkers that they use."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API = ROOT / "tests" / "typing" / "api.py"
PACKAGES = ("penstock", "penstock_runners", "penstock_results", "penstock_history")
PYRIGHT = (sys.executable, "-m", "pyright", "--pythonpath", sys.executable)


@pytest.mark.parametrize(
    "checker",
    [
        ["mypy", "--strict", "--follow-imports=silent", "--cache-dir={cache}", str(API)],
        ["pyright", "--project", str(ROOT / "pyproject.toml"), str(API)],
    ],
    ids=["mypy", "pyright"],
)
def test_the_api_as_checkers_see_it(checker: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *(part.format(cache=tmp_path) for part in checker)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_checkers_do_look(tmp_path: Path) -> None:
    """A wrong claim about a type is an error: the test above can fail."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from typing import assert_type\n"
        "from penstock import task\n"
        "@task\n"
        "def work(a: int) -> str:\n"
        "    return str(a)\n"
        "assert_type(work.submit(1).result(), int)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", f"--cache-dir={tmp_path}", str(wrong)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
        check=False,
    )
    assert 'Expression is of type "str", not "int"' in done.stdout


def test_every_public_name_has_a_type(tmp_path: Path) -> None:
    """As a type checker sees the installed package: no symbol that the next one could infer differently."""
    sources = [str(Path(str(import_module(name).__file__)).parents[1]) for name in PACKAGES]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyright",
            "--pythonpath",
            sys.executable,
            "--verifytypes",
            "penstock",
            "--ignoreexternal",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
        timeout=110,
        check=False,
    )
    assert "Type completeness score: 100%" in done.stdout, done.stdout
    assert 'Symbols exported by "penstock": 0' not in done.stdout
