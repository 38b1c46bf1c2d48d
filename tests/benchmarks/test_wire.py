"""The benchmark of the wire runs, and says how it compares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "wire.py"


def test_it_runs_small() -> None:
    command = [sys.executable, "-W", "error", str(SCRIPT), "--small"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    assert "worker: unpack, run, pack" in printed
    assert "through the pool, batches of 1000" in printed
