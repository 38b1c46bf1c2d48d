"""What all benchmarks share: pairs of a floor and ours, the ratio of their medians, and a table.

A time says as much about the machine and its neighbours as about the code, so nothing here compares one with a
constant. Floor and ours take turns in one process, at least five times each and some seconds in all; whatever slows
the machine for a while slows both, and the ratio of the medians is the result. The smallest and the largest ratio of
one pair say how far to trust it.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tables import Table

PAIRS = 5
Measurement = Callable[[], float]
Unit = Literal["x", "µs", "ms", "B", "MB", "runs"]

# Seconds that the turns of one row last at least, and how many pairs they may become: a turn of 40 ms is shorter than
# what a neighbour takes from a shared machine at a time, and five of those would be a lottery.
SECONDS = 4.0
MOST_PAIRS = 41


@dataclass(frozen=True)
class Row:
    """One promise beside what was measured.

    Attributes:
        path: What was measured.
        floor: What was measured beside it.
        budget: The largest result that keeps the promise; None for a row that is only information.
        result: The ratio of the medians, or their difference where `unit` is not ``"x"``.
        least: The smallest result of one pair.
        most: The largest result of one pair.
        unit: ``"x"`` for a ratio; any other for what ours takes more than the floor.
        floor_median: What the floor took: microseconds a task, or `unit` where that is not ``"x"``.
        ours_median: What ours took, likewise.
    """

    path: str
    floor: str
    budget: float | None
    result: float
    least: float
    most: float
    unit: Unit
    floor_median: float
    ours_median: float

    @property
    def verdict(self) -> str:
        """Whether the promise is kept."""
        if self.budget is None:
            return ""
        return "kept" if self.result <= self.budget else "MISSED"

    def cells(self) -> tuple[str, ...]:
        """The row as the table prints it."""
        sign, suffix = ("", " x") if self.unit == "x" else ("+ ", f" {self.unit}")
        unit = "µs" if self.unit == "x" else self.unit
        return (
            self.path,
            f"{self.floor} ({self.floor_median:,.4g} {unit})",
            f"{self.ours_median:,.4g} {unit}",
            "" if self.budget is None else f"{sign}{self.budget:g}{suffix}",
            f"{sign}{self.result:.2f}{suffix}",
            f"{self.least:.2f} - {self.most:.2f}",
            self.verdict,
        )


COLUMNS = ("path", "floor beside it", "ours", "at most", "measured", "range", "verdict")
SHORT = ("path", "floor beside it", "at most", "measured", "verdict")


def compare(
    path: str,
    floor_name: str,
    budget: float | None,
    floor: Measurement,
    ours: Measurement,
    *,
    tasks: int,
    small: bool = False,
) -> Row:
    """Let floor and ours take turns, and say how many times the floor ours takes.

    Args:
        path: What is measured.
        floor_name: What the floor does.
        budget: The largest ratio that keeps the promise, or None.
        floor: Runs the floor once and gives the seconds that it took.
        ours: The same for ours.
        tasks: How many tasks one turn has.
        small: Whether two pairs are enough, because nobody looks at the figures.
    """
    return ratio(path, floor_name, budget, take_turns(floor, ours, small), tasks)


def ratio(path: str, floor_name: str, budget: float | None, turns: Sequence[tuple[float, float]], tasks: int) -> Row:
    """Say how many times the floor ours takes, from turns in seconds."""
    floors, own = zip(*turns, strict=True)
    ratios = [ours_s / floor_s for floor_s, ours_s in turns]
    floor_median, ours_median = statistics.median(floors), statistics.median(own)
    return Row(
        path,
        floor_name,
        budget,
        ours_median / floor_median,
        min(ratios),
        max(ratios),
        "x",
        floor_median / tasks * 1e6,
        ours_median / tasks * 1e6,
    )


def take_turns(floor: Measurement, ours: Measurement, small: bool) -> list[tuple[float, float]]:
    """Let floor and ours take turns, after one unmeasured turn each."""
    collected(floor)
    collected(ours)
    turns = list[tuple[float, float]]()
    began = time.perf_counter()
    while len(turns) < (2 if small else PAIRS) or (
        not small and len(turns) < MOST_PAIRS and time.perf_counter() - began < SECONDS
    ):
        turns.append((collected(floor), collected(ours)))
    return turns


def exceed(path: str, floor_name: str, budget: float | None, unit: Unit, turns: Sequence[tuple[float, float]]) -> Row:
    """Say by how much ours exceeds the floor, from turns in the unit."""
    floors, own = zip(*turns, strict=True)
    floor_median, ours_median = statistics.median(floors), statistics.median(own)
    more = [ours - floor for floor, ours in turns]
    return Row(
        path, floor_name, budget, ours_median - floor_median, min(more), max(more), unit, floor_median, ours_median
    )


def collected(measurement: Measurement) -> float:
    """Measure without the garbage of whoever was before."""
    gc.collect()
    return measurement()


def environment() -> dict[str, str]:
    """The variables for a process whose start is measured: what it compiles is kept, as nearly everywhere."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    packages = ("penstock", "dask", "distributed", "ray", "numpy", "cloudpickle")
    return {
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe(facts: dict[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['processors']} x {facts['processor']}, load {facts['load']}, {facts['system']}, "
        f"Python {facts['python']}, {versions}"
    )


def table(rows: Sequence[Row], title: str = "") -> Table:
    """The rows as a table, the missed promises to be seen first."""
    missed = frozenset(index for index, row in enumerate(rows) if row.verdict == "MISSED")
    return Table(title, COLUMNS, [row.cells() for row in rows], texts=2, red=missed)


def short_table(rows: Sequence[Row]) -> Table:
    """The rows without times and ranges, which say as much about the machine."""
    chosen = [COLUMNS.index(name) for name in SHORT]
    cells = [(row.path, row.floor, *row.cells()[2:]) for row in rows]
    return Table("", SHORT, [[row[index] for index in chosen] for row in cells], texts=2)


def rows_of(report: dict[str, Any]) -> list[Row]:
    """The rows of a report, which says with each what follows from it."""
    return [Row(**{key: value for key, value in row.items() if key != "verdict"}) for row in report["rows"]]


def arguments(description: str | None) -> argparse.Namespace:
    """Read a benchmark's arguments; the description is its docstring."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a fraction of the size and two pairs, for the suite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    logging.getLogger("penstock").setLevel(logging.WARNING)
    os.environ["PENSTOCK_HISTORY"] = "none"  # read by this process and those that it starts
    return parser.parse_args()


def finish(rows: Sequence[Row], facts: dict[str, Any], file: Path | None, **more: Any) -> None:
    """Print the table and, if somebody asked for it, write the report with whatever else belongs to it."""
    table(rows, describe(facts)).show()
    if file is not None:
        file.write_text(json.dumps(report(rows, facts) | more, indent=1))


def report(rows: Sequence[Row], facts: dict[str, Any]) -> dict[str, Any]:
    """What is kept of rows."""
    return {"machine": facts, "rows": [{**asdict(row), "verdict": row.verdict} for row in rows]}


def program(description: str | None, measure: Callable[[bool], list[Row]]) -> None:
    """Be the main program of one benchmark.

    Args:
        description: The benchmark's docstring.
        measure: Gives the rows; its argument says whether a small run is enough.
    """
    options = arguments(description)
    facts = machine()
    finish(measure(options.small), facts, options.json)
