"""All benchmarks, one after the other: the table of the promises, what each costs here, and whether it is kept.

python benchmarks/run.py            measures, prints, keeps the figures, and writes docs/reference/performance.md
python benchmarks/run.py NAME ...   only these, beside the figures that are kept of the others
python benchmarks/run.py --check [NAME ...]   compares with the kept figures instead of keeping new ones
python benchmarks/run.py --small [NAME ...]   a fraction of the size, and keeps nothing

Ends with status 1 if a promise is not kept; with --check, if a figure is worse than the kept one by more than the noise
of a shared machine. What is judged is always a ratio, or a difference, to a floor that was measured in the same run,
never a time.
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

import figures
import measure
import page

FOLDER = Path(__file__).parent
NAMES = (*page.PROMISES, "ledger")

# How much worse than the kept figure is no accident: medians of one commit, measured on different days beside whatever
# else the machine did, lay up to a third apart. A difference may also grow by a little.
WORSE = 1.5
MORE = {"x": 0.0, "µs": 5.0, "ms": 20.0, "B": 20.0, "MB": 5.0, "runs": 10_000.0}


def run(name: str, folder: Path, small: bool) -> dict[str, Any]:
    """Run one benchmark in a process of its own and give its report."""
    report = folder / f"{name}.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--json", str(report), *(["--small"] if small else [])]
    subprocess.run(command, check=True)
    found = {"measured": f"{datetime.now(UTC):%Y-%m-%d}", **json.loads(report.read_text())}
    if name == "results":
        found |= measure.report(result_rows(found["large"]), measure.machine())
    return found


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


def regressions(name: str, rows: list[measure.Row]) -> list[str]:
    """What became worse than it was when the figures were kept."""
    kept = figures.read(name)
    before = {} if kept is None else {row.path: row for row in measure.rows_of(kept)}
    found = list[str]()
    for row in rows:
        was = before.get(row.path)
        if was is not None and row.result > max(was.result, 0.0) * WORSE + MORE[row.unit]:
            found.append(f"{row.path}: {row.result:.2f} {row.unit}, and it was {was.result:.2f}")
    return found


def main() -> int:
    """Run what was asked for; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    rows, worse = list[measure.Row](), list[str]()
    facts = measure.machine()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        for name in options.names or NAMES:
            report = run(name, Path(folder), options.small)
            rows += measure.rows_of(report)
            worse += regressions(name, measure.rows_of(report)) if options.check else []
            if not options.small and not options.check:
                figures.keep(name, report)
    measure.table(rows, measure.describe(facts)).show()
    if options.check:
        print("\n".join(worse) or "Nothing is worse than it was.")
        return 1 if worse else 0
    if options.small:
        return 0
    page.write()
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
