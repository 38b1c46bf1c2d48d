"""Style and types of the whole tree, as `make check` looks at them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "gate",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["pyright", "--pythonpath", sys.executable],
    ],
    ids=["style", "format", "mypy", "pyright"],
)
def test_the_tree_passes(gate: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *gate], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
