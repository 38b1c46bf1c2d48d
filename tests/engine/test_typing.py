"""The types that users see, by the two checkers that they use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API = ROOT / "tests" / "typing" / "api.py"


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
