"""docs/reference/performance.md, its plots and the README's table, made from the kept figures.

python benchmarks/page.py           writes them
python benchmarks/page.py --check   says whether they are what the figures make, and writes nothing
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import figures
import ledger
import measure
import peer_tables
import plots

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "performance.md"
README = ROOT / "README.md"
PLOTS = PAGE.parent / "plots"

# The benchmarks of the promises, in the order of the table, and the peers.
PROMISES = (
    "direct",
    "fanout",
    "scaling",
    "history",
    "processes",
    "dask_runner",
    "ray_runner",
    "cpu",
    "batching",
    "imports",
    "memory",
    "results",
)
PEERS = tuple(peer_tables.NAMES)

# What is drawn of the peers, by the title of the table that it stands below.
PICTURES = {
    "µs of a task that does nothing": plots.overhead,
    "Seconds of a fan-out": plots.throughput,
    "A result of 512 MB": plots.bandwidth,
    "Peak memory of all processes, MB": plots.memory,
}


def made() -> dict[Path, bytes]:
    """Every file as the figures make it."""
    peers = [peer for peer in figures.peers(PEERS) if peer["cases"] or "failed" in peer]
    drawn = {PLOTS / f"{name}.svg": plots.svg(draw) for name, draw in _plots(peers).items()}
    sections = {"promises": promises(), "ledger": spent(), "batching": swept(), "peers": beside(peers)}
    return {PAGE: _filled(PAGE, sections).encode(), README: _filled(README, {"promises": verdicts()}).encode(), **drawn}


def write() -> None:
    """Write what has changed."""
    PLOTS.mkdir(exist_ok=True)
    for file, content in made().items():
        if not file.exists() or file.read_bytes() != content:
            file.write_bytes(content)


def _plots(peers: peer_tables.Peers) -> dict[str, plots.Draw]:
    drawn = [PICTURES[table.title] for table in peer_tables.tables(peers) if table.title in PICTURES]
    found: dict[str, plots.Draw] = {draw.__name__: partial(draw, peers) for draw in drawn}
    if sweeps := figures.read("batching"):
        found["batching"] = partial(plots.batching, sweeps["sweeps"])
    if spent := figures.read("ledger"):
        found["ledger"] = partial(plots.ledger, spent["paths"])
    return found


def _filled(file: Path, sections: dict[str, str | None]) -> str:
    """The file's text with what stands between its marks replaced; what has not been measured is left as it is."""
    text = file.read_text(encoding="utf-8")
    for name, content in sections.items():
        if content is None:
            continue
        before, begin, rest = text.partition(f"<!-- {name}: begin -->")
        _, end, after = rest.partition(f"<!-- {name}: end -->")
        if not end:
            raise ValueError(
                f"{file.name} has no place for {name}: write <!-- {name}: begin --> and <!-- {name}: end -->."
            )
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return text


def promises() -> str | None:
    """The table of the promises, with all that was measured beside them."""
    reports = _reports()
    return f"{_measured(reports)}\n\n{measure.table(_rows(reports)).markdown()}" if reports else None


def verdicts() -> str | None:
    """The promises alone, and how many are kept, for readers who want no more than that."""
    reports = _reports()
    if not reports:
        return None
    promised = [row for row in _rows(reports) if row.budget is not None]
    kept = sum(row.verdict == "kept" for row in promised)
    said = f"{_measured(reports)} {kept} of {len(promised)} promises are kept."
    return f"{said}\n\n{measure.short_table(promised).markdown()}"


def _reports() -> list[dict[str, Any]]:
    return [report for name in PROMISES if (report := figures.read(name)) is not None]


def _rows(reports: Sequence[dict[str, Any]]) -> list[measure.Row]:
    return [row for report in reports for row in measure.rows_of(report)]


def spent() -> str | None:
    """Where the microseconds go."""
    report = figures.read("ledger")
    if report is None:
        return None
    return f"{_measured([report])}\n\n{ledger.table(report['paths']).markdown()}\n\n![ledger](plots/ledger.svg)"


def swept() -> str | None:
    """The sweep of the batch sizes."""
    return "![batching](plots/batching.svg)" if figures.read("batching") else None


def beside(peers: peer_tables.Peers) -> str | None:
    """The tables of the peers, and how each was used."""
    if not peers:
        return None
    parts = [_measured(peers)]
    for table in peer_tables.tables(peers):
        parts += [f"### {table.title}", table.markdown()]
        if table.title in PICTURES:
            parts.append(f"![{table.title}](plots/{PICTURES[table.title].__name__}.svg)")
    parts.append("### How each was used")
    parts += [f"**{_versions(peer)}.** {_flat(peer['about'])}" for peer in peers]
    return "\n\n".join(parts)


def _measured(reports: Sequence[dict[str, Any]]) -> str:
    """When and on what; the load is that of the first."""
    days = sorted({report["measured"] for report in reports})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"Measured on {when}: {measure.describe(reports[0]['machine'])}."


def _versions(peer: dict[str, Any]) -> str:
    versions = [f"{name} {version}" for name, version in peer["versions"].items()]
    return f"{peer_tables.NAMES[peer['name']]} ({', '.join(versions) or 'not installed'})"


def _flat(text: str) -> str:
    return " ".join(text.split())


def main() -> int:
    """Write, or check; give the exit status."""
    if "--check" not in sys.argv:
        write()
        return 0
    stale = [str(file.relative_to(ROOT)) for file, content in made().items() if file.read_bytes() != content]
    if stale:
        print(f"Not what the kept figures make: {', '.join(stale)}. Run python benchmarks/page.py.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
