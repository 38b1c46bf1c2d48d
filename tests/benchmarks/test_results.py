"""The benchmark of results runs, and its figures are complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "results.py"


def test_it_runs_small(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, str(SCRIPT), "--small", "--json", str(report)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(report.read_text())
    assert {(row["value"], row["way"]) for row in figures["large"]} >= {
        ("ndarray", "penstock"),
        ("ndarray", "numpy.save"),
        ("DataFrame", "penstock"),
        ("DataFrame", "to_parquet"),
    }
    assert all(row["ratio"] > 0 and row["size_mb"] > 0 for row in figures["large"])
    assert "penstock, zstd" in printed
