"""Every benchmark runs, and its report is complete. How quick anything is, is no business of the suite's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

# What each benchmark measures, as the beginnings of its rows.
PATHS = {
    "direct": [
        "sync task called in a sync flow",
        "async task awaited in an async flow",
        "the same with a list of 1,000,000",
        "NO_CACHE and no persistence",
    ],
    "fanout": [
        "async .submit in an async flow",
        "async .map in an async flow",
        ".submit on threads",
        ".map on threads",
    ],
    "scaling": ["direct calls", "async .map", ".map, sequential", ".map on threads"],
    "history": [
        "sync tasks called, 200 recorded",
        "async tasks awaited, 200 recorded",
        "async .map, 200 recorded",
        ".map on threads, 200 recorded",
        "2,000 tasks called, all written",
        "2,000 tasks called, most that wait",
        "2,000 tasks called, on disk",
        'async .map, 20 with durability="full"',
        'sync tasks called, 10 with durability="full"',
    ],
    "processes": [
        "process runner, .map with auto batches, 200",
        "process runner, .map with auto batches, 400",
        "process runner, .submit",
    ],
    "dask_runner": [
        "Dask runner, .submit",
        "Dask runner, .map with auto batches, 200",
        "Dask runner, .map with auto batches, 2,000",
    ],
    "ray_runner": [
        "Ray runner, .submit",
        "Ray runner, .map with auto batches, 200",
        "Ray runner, .map with auto batches, 2,000",
    ],
    "cpu": ["process runner, 20 x 1 ms", "process runner, 4 x 20 ms"],
    "batching": [f"process runner, auto, {shape}" for shape in ("100 x 0.01 ms", "50 x 1 ms", "2 x 50 ms")],
    "imports": ["import penstock, processor time", "import penstock, memory", "penstock version, processor time"],
    "memory": [
        "100 submitted tasks",
        "map_iter on threads",
        "map_iter on a loop",
        "1,000 flows",
    ],
}


def run_small(name: str, report: Path) -> dict[str, Any]:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--small", "--json", str(report)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(report.read_text()))


@pytest.mark.parametrize("name", PATHS)
def test_it_runs_small_and_reports_every_row(name: str, tmp_path: Path) -> None:
    report = run_small(name, tmp_path / "report.json")
    assert [path for row, path in zip(report["rows"], PATHS[name], strict=True) if row["path"].startswith(path)] == (
        PATHS[name]
    )
    for row in report["rows"]:
        assert row["least"] <= row["most"]
        assert row["unit"] != "x" or (row["least"] > 0 and row["floor_median"] > 0)
        assert row["verdict"] == judged(row)
    assert report["machine"]["python"] == sys.version.split()[0]
    if name == "batching":
        assert [sweep["medians"].keys() for sweep in report["sweeps"]] == [{"1", "10", "100", "1000", "auto"}] * 3
    assert {"penstock", "dask", "ray"} <= report["machine"]["packages"].keys()


def judged(row: dict[str, Any]) -> str:
    if row["budget"] is None:
        return ""
    return "kept" if row["result"] <= row["budget"] else "MISSED"


def test_all_of_them_make_one_table_and_leave_the_page_alone_when_small() -> None:
    page = FOLDER.parent / "docs" / "reference" / "performance.md"
    before = page.read_text()
    command = [sys.executable, str(FOLDER / "run.py"), "--small", "imports", "results"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "import penstock, memory" in printed
    assert "array to the local store and back" in printed
    assert page.read_text() == before


def test_a_benchmark_that_does_not_exist_is_named_beside_those_that_do() -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "nonsense"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    message = ended.stderr[ended.stderr.index("there is no") :]
    first, there_are = message.split(";")
    assert first == "there is no benchmark nonsense"
    assert {name.strip() for name in there_are.removeprefix(" there are ").split(",")} == {*PATHS, "results", "ledger"}


def test_the_ledger_has_every_part_of_every_way(tmp_path: Path) -> None:
    report = run_small("ledger", tmp_path / "report.json")
    parts = {path["path"]: {name for name, part in path["parts"].items() if part} for path in report["paths"]}
    common = {"engine", "store", "history", "logs"}
    assert parts == {
        "called in a sync flow": common,
        ".map in an async flow": common,
        ".map on threads": common | {"queue"},
        ".map on processes": common | {"queue", "pickling"},
    }
    for path in report["paths"]:
        assert path["parts"]["engine"]["microseconds"] > 0
        assert path["elapsed_stored"] > path["elapsed"] > 0
