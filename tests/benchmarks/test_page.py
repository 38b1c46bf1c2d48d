"""The page, its plots and the check are made from the kept figures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the page is made of, to be spoilt."""
    for folder in ("benchmarks", "docs/reference"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "benchmarks" / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True)


def change(root: Path, name: str, content: Any) -> None:
    file = root / "benchmarks" / "measured" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def figures(result: float, verdict: str = "kept") -> Any:
    """What might have been measured of imports."""
    names = {"import penstock, processor time": "ms", "import penstock, memory": "MB"}
    row = {"floor": "bare interpreter", "budget": 150, "least": 1.0, "most": 2.0, "floor_median": 1, "ours_median": 2}
    rows = [{**row, "path": path, "unit": unit, "result": result, "verdict": verdict} for path, unit in names.items()]
    machine = {
        "processors": 2,
        "processor": "P",
        "load": 0.1,
        "system": "S",
        "python": "3",
        "packages": {"penstock": "1"},
    }
    return {"measured": "2026-11-21", "machine": machine, "rows": rows}


def test_the_page_is_what_the_figures_make() -> None:
    ended = run(ROOT, "page.py", "--check")
    assert ended.returncode == 0, ended.stderr


def test_a_figure_that_changed_makes_the_page_stale_until_it_is_written(copy: Path) -> None:
    change(copy, "imports", figures(1000.0, "MISSED"))
    ended = run(copy, "page.py", "--check")
    assert ended.returncode == 1
    assert "docs/reference/performance.md" in ended.stderr
    assert "README.md" in ended.stderr
    assert run(copy, "page.py").returncode == 0
    assert run(copy, "page.py", "--check").returncode == 0
    assert "MISSED" in (copy / "docs" / "reference" / "performance.md").read_text()


def test_the_check_measures_against_the_kept_ratios(copy: Path) -> None:
    change(copy, "imports", figures(10_000.0))
    assert run(copy, "run.py", "--check", "--small", "imports").returncode == 0
    change(copy, "imports", figures(0.0))
    ended = run(copy, "run.py", "--check", "--small", "imports")
    assert ended.returncode == 1
    assert "import penstock, memory: " in ended.stdout
    assert ", and it was 0.00" in ended.stdout
    assert json.loads((copy / "benchmarks" / "measured" / "imports.json").read_text()) == figures(0.0)


def beside(cases: dict[str, Any], name: str) -> Any:
    """What might have been measured of a peer."""
    return {**figures(1.0), "name": name, "about": "So.", "versions": {}, "cases": cases}


def test_a_round_that_was_given_up_says_at_least_how_much_longer_it_was(copy: Path) -> None:
    shutil.rmtree(copy / "benchmarks" / "measured")
    (copy / "benchmarks" / "measured" / "peers").mkdir(parents=True)
    fan_out, burnt = "time fanout called 10000", "time cpu processes 200 20"
    change(copy, "peers/penstock", beside({fan_out: {"rounds": [0.5, 0.4, 0.6]}}, "penstock"))
    slow = {"rounds": [], "unfinished": 60.0}
    partly = {"rounds": [8.0], "ideal": [2.0, 2.0], "unfinished": 60.0}
    change(copy, "peers/dagster", beside({fan_out: slow, burnt: partly}, "dagster"))
    assert run(copy, "page.py").returncode == 0
    page = (copy / "docs" / "reference" / "performance.md").read_text()
    assert "| Dagster | called | not finished in 60 s; over 120 x |" in page
    assert "| Dagster | processes | 4.00; then not finished in 60 s |" in page
