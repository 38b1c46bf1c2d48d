"""All benchmarks, one after the other: the table of the promises, what each costs here, and whether it is kept.

python benchmarks/run.py            measures, prints, and writes docs/reference/performance.md with its plots
python benchmarks/run.py --small    a fraction of the size, and writes nothing
python benchmarks/run.py NAME ...   only these, and writes nothing

Ends with status 1 if a promise is not kept. What is judged is always a ratio, or a difference, to a floor that was
measured in the same run, never a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import measure

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "reference" / "performance.md"
NAMES = (
    "direct",
    "fanout",
    "scaling",
    "processes",
    "dask_runner",
    "ray_runner",
    "cpu",
    "batching",
    "imports",
    "memory",
    "results",
)
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def run(name: str, folder: Path, small: bool) -> dict[str, Any]:
    """Run one benchmark in a process of its own and give its report."""
    report = folder / f"{name}.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--json", str(report), *(["--small"] if small else [])]
    subprocess.run(command, check=True)
    return dict(json.loads(report.read_text()))


def rows_of(name: str, report: dict[str, Any]) -> list[measure.Row]:
    """Read a report."""
    if name == "results":
        return result_rows(report["large"])
    return [measure.Row(**{key: value for key, value in row.items() if key != "verdict"}) for row in report["rows"]]


def result_rows(large: list[dict[str, Any]]) -> list[measure.Row]:
    """The promises among the figures of results.py, whose own tables say much more."""
    array = next(row for row in large if (row["value"], row["way"]) == ("ndarray", "penstock"))
    name = f"{array['size_mb']:.0f} MB array to the local store and back"
    ratio, ours = array["ratio"], (array["write_s"] + array["read_s"]) * 1e6
    peak = max(array["write_peak_mb"], array["read_peak_mb"])
    return [
        measure.Row(name, "raw write + fsync + read", 1.3, ratio, ratio, ratio, "x", ours / ratio, ours),
        measure.Row(f"{name}, peak memory", "the array itself", 128, peak, peak, peak, "MB", 0.0, peak),
    ]


def markdown(rows: list[measure.Row], facts: dict[str, Any]) -> str:
    """The table for the page."""
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {measure.describe(facts)}.",
        "",
        f"| {' | '.join(measure.COLUMNS)} |",
        "|---|---|--:|--:|--:|--:|--:|",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
    ]
    return "\n".join(lines)


def publish(rows: list[measure.Row], facts: dict[str, Any], folder: Path) -> None:
    """Put the table between the page's marks, and the plots beside the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{markdown(rows, facts)}\n\n{END}{after}")
    for plot in folder.glob("*.svg"):
        (PAGE.parent / plot.name).write_bytes(plot.read_bytes())


def main() -> int:
    """Run what was asked for; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    facts = measure.machine()
    rows = list[measure.Row]()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        for name in options.names or NAMES:
            rows += rows_of(name, run(name, Path(folder), options.small))
        if not options.small and not options.names:
            publish(rows, facts, Path(folder))
    measure.show(rows, measure.describe(facts))
    missed = [row.path for row in rows if row.verdict == "MISSED"]
    return 1 if missed and not options.small else 0


if __name__ == "__main__":
    sys.exit(main())
