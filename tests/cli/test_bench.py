"""``penstock bench``: every runner is measured beside what lies beneath it, and nothing is left of that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from penstock.cli.bench import _NAMES
from penstock.cli.exits import Exit
from penstock.cli.floors import PLACES


def test_what_is_named_is_measured_beside_its_floor(penstock) -> None:
    found = penstock("bench", "asyncio", "threads", "processes", "--tasks", 60, "--rounds", 3, "--json").json
    assert [row["runner"] for row in found] == ["asyncio", "threads", "processes"]
    for row in found:
        assert row["floor"] == PLACES[row["runner"]].floor
        assert row["tasks"] == 60
        assert row["ratio"] == pytest.approx(row["ours"] / row["bare"])
        assert 0 < row["least"] <= row["most"]
    assert not (penstock.home / "history.db").exists()


def test_the_clusters_get_fewer_tasks(penstock) -> None:
    (row,) = penstock("bench", "dask", "--tasks", 100, "--rounds", 1, "--json").json
    assert (row["runner"], row["tasks"]) == ("dask", 10)


def test_people_get_a_table(penstock) -> None:
    head, line = penstock("bench", "threads", "--tasks", 20, "--rounds", 1).out.splitlines()
    assert head.split()[:2] == ["ON", "BESIDE"]
    assert line.split()[0] == "threads"
    assert " x " in line


def test_what_is_not_installed_is_said_or_refused() -> None:
    without = """
import sys

import pytest
sys.modules["distributed"] = sys.modules["ray"] = None
sys.argv[1:] = ["bench", "--tasks", "5", "--rounds", "1", *sys.argv[1:]]
from penstock.__main__ import main
if __name__ == "__main__":  # the worker processes import this again
    main()
"""
    asked = subprocess.run([sys.executable, "-c", without, "dask"], capture_output=True, text=True)
    assert asked.returncode == Exit.USAGE
    assert "pip install 'penstock[dask]'" in asked.stderr
    assert "Traceback" not in asked.stderr
    rest = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in rest.splitlines()] == ["ON", "asyncio", "threads", "processes", "dask", "ray"]
    assert "dask is not installed: pip install 'penstock[dask]'" in rest


def test_the_command_knows_every_place() -> None:
    assert tuple(PLACES) == _NAMES
