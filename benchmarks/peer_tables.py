"""The figures of the peers as tables: medians, the smallest and the largest, and how often ours goes into each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tables import Table

WAYS = ("called", "async", "threads", "processes", "dask", "ray")
NAMES = {
    "bare": "nothing in between",
    "penstock": "Penstock",
    "prefect": "Prefect",
    "dagster": "Dagster",
    "dbos": "DBOS",
    "parsl": "Parsl",
    "taskiq": "taskiq",
    "hamilton": "Hamilton",
    "joblib": "joblib",
}
# Who keeps a state for every task and can retry it, as we do. The others do less, and are here as a yardstick.
STATEFUL = ("penstock", "prefect", "dagster", "dbos", "parsl", "taskiq")

Peers = Sequence[dict[str, Any]]


def label(peer: dict[str, Any]) -> str:
    """The peer's name as the tables show it; those that keep no states are marked."""
    return NAMES[peer["name"]] + ("" if peer["name"] in STATEFUL else "\\*")


@dataclass(frozen=True)
class Figure:
    """What one case gave.

    Attributes:
        values: One for each round, or one in all.
        shortfall: Why there are none, or no more.
        least: What the round that was given up came to by then.
    """

    values: tuple[float, ...] = ()
    shortfall: str = ""
    least: float = 0.0

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    def cell(self, ours: Figure | None, digits: str) -> str:
        """As a table shows it.

        Args:
            ours: What ours gave for the same work.
            digits: How to print a number.
        """
        own = ours.median if ours is not None and ours.values else None
        if not self.values:
            return f"{self.shortfall}; over {self.least / own:,.3g} x" if own and self.least else self.shortfall
        text = f"{self.median:{digits}}"
        if len(self.values) > 1:
            text += f" ({min(self.values):{digits}} - {max(self.values):{digits}})"
        if own:
            text += f"; {self.median / own:,.3g} x"
        return f"{text}; then {self.shortfall}" if self.shortfall else text


Read = Callable[[dict[str, Any]], Sequence[float]]


def figure(peer: dict[str, Any], key: str, read: Read) -> Figure:
    """What a peer's case gave, or why it gave nothing."""
    case = peer["cases"].get(key)
    if case is None:
        return Figure(shortfall="")
    if "failed" in case:
        return Figure(shortfall="failed")
    if case.get("untried"):
        return Figure(shortfall="not tried")
    values = tuple(read(case)) if case["rounds"] else ()
    if "unfinished" not in case:
        return Figure(values)
    *_, least = read(case | {"rounds": [*case["rounds"], case["unfinished"]]})
    return Figure(values, f"not finished in {case['unfinished']:g} s", least)


def per_task(case: dict[str, Any]) -> list[float]:
    """Microseconds of a task."""
    return [seconds / case["count"] * 1e6 for seconds in case["rounds"]]


def rounds(case: dict[str, Any]) -> list[float]:
    """Seconds."""
    return list(case["rounds"])


def peak(case: dict[str, Any]) -> list[float]:
    """Megabytes."""
    return [case["peak_mb"]]


def beyond_ideal(case: dict[str, Any]) -> list[float]:
    """How much longer than two bare processes, whose turn comes first: a round that was given up is not in the list."""
    return [seconds / ideal for seconds, ideal in zip(case["rounds"], case["ideal"], strict=False)]


def tables(peers: Peers) -> list[Table]:
    """All of them."""
    measured = [peer for peer in peers if peer["cases"]]
    made = [
        overhead(measured),
        fan_outs(measured),
        burning(measured),
        large(measured),
        memory(measured),
        cold(measured),
        shortfalls(peers),
    ]
    return [table for table in made if table.rows]


def _matrix(title: str, peers: Peers, columns: dict[str, str], read: Read, digits: str) -> Table:
    """A row for each peer, a column for each case; only the columns that somebody fills."""
    ours = _ours(peers)
    used = {key: name for key, name in columns.items() if any(key in peer["cases"] for peer in peers)}
    own = {key: figure(ours, key, read) if ours else None for key in used}
    rows = [
        [label(peer), *(figure(peer, key, read).cell(None if peer is ours else own[key], digits) for key in used)]
        for peer in peers
    ]
    return Table(title, ["", *used.values()], [row for row in rows if any(row[1:])])


def _ours(peers: Peers) -> dict[str, Any] | None:
    return next((peer for peer in peers if peer["name"] == "penstock"), None)


def overhead(peers: Peers) -> Table:
    """What a no-op task costs, on each runner."""
    columns = {f"time overhead {way}": way for way in WAYS}
    return _matrix("µs of a task that does nothing", peers, columns, per_task, ",.4g")


def fan_outs(peers: Peers) -> Table:
    """Seconds of ever larger fan-outs; a line for each peer and runner."""
    ours = _ours(peers)
    counts = sorted({int(key.split()[3]) for peer in peers for key in peer["cases"] if key.startswith("time fanout ")})
    rows = list[list[str]]()
    for peer in peers:
        for way in WAYS:
            keys = [f"time fanout {way} {count}" for count in counts]
            own = [figure(ours, key, rounds) if ours and ours is not peer else None for key in keys]
            found = [figure(peer, key, rounds) for key in keys]
            if any(each.values or each.shortfall for each in found):
                cells = [each.cell(beside, ".3g") for each, beside in zip(found, own, strict=True)]
                rows.append([label(peer), way, *cells])
    return Table("Seconds of a fan-out", ["", "on", *(f"{count:,} tasks" for count in counts)], rows, texts=2)


def burning(peers: Peers) -> Table:
    """How much longer real work takes than two bare processes need for it."""
    shapes = list(
        dict.fromkeys(tuple(key.split()[3:]) for peer in peers for key in peer["cases"] if key.startswith("time cpu "))
    )
    rows = list[list[str]]()
    for peer in peers:
        for way in WAYS:
            found = [figure(peer, f"time cpu {way} {count} {each}", beyond_ideal) for count, each in shapes]
            if any(each.values or each.shortfall for each in found):
                rows.append([label(peer), way, *(each.cell(None, ".2f") for each in found)])
    columns = [f"{int(count):,} x {each} ms" for count, each in shapes]
    return Table("CPU-bound work, times what two bare processes take", ["", "on", *columns], rows, texts=2)


def large(peers: Peers) -> Table:
    """Seconds and memory of a result of 512 MB."""

    def above(case: dict[str, Any]) -> list[float]:
        return [case["peak_mb"] - 2 * case["megabytes"]]

    ours = _ours(peers)
    rows = list[list[str]]()
    for peer in peers:
        key = next((key for key in peer["cases"] if key.startswith("time large")), "")
        own = figure(ours, key, rounds) if ours and ours is not peer else None
        cells = [figure(peer, key, rounds).cell(own, ".3g"), figure(peer, "memory large 1", above).cell(None, ",.0f")]
        if any(cells):
            rows.append([label(peer), *cells])
    columns = ["", "seconds to keep it and read it back", "peak of memory besides it and its copy, MB"]
    return Table("A result of 512 MB", columns, rows)


def memory(peers: Peers) -> Table:
    """The peaks of ever larger fan-outs, and what a task adds between the first and the last that was finished."""
    counts = sorted({int(key.split()[3]) for peer in peers for key in peer["cases"] if key.startswith("memory once ")})
    rows = list[list[str]]()
    for peer in peers:
        points = memory_points(peer)
        way = next((key.split()[2] for key in peer["cases"] if key.startswith("memory once ")), "")
        found = [figure(peer, f"memory once {way} {count}", peak) for count in counts]
        rows.append([label(peer), way, *(each.cell(None, ",.0f") for each in found), _slope(points)])
    columns = ["", "on", *(f"{count:,} tasks" for count in counts), "kB a task"]
    return Table("Peak memory of all processes, MB", columns, rows, texts=2)


def memory_points(peer: dict[str, Any]) -> dict[int, float]:
    """The peaks that were seen, in megabytes, by the number of tasks."""
    points = {int(key.split()[3]): figure(peer, key, peak) for key in peer["cases"] if key.startswith("memory once ")}
    return {count: point.median for count, point in sorted(points.items()) if point.values}


def _slope(points: dict[int, float]) -> str:
    if len(points) < 2:
        return ""
    (few, least), *_, (many, most) = points.items()
    return f"{(most - least) / (many - few) * 1e3:,.3g}"


def cold(peers: Peers) -> Table:
    """From the start of a process to the end of its first task."""
    ours = _ours(peers)
    rows = list[list[str]]()
    for peer in peers:
        for key in (key for key in peer["cases"] if key.startswith("time cold ")):
            own = ours and next((found for found in ours["cases"] if found.startswith("time cold ")), None)
            beside = figure(ours, own, rounds) if ours and own and ours is not peer else None
            size = figure(peer, key.replace("time", "memory", 1), peak)
            rows.append([label(peer), figure(peer, key, rounds).cell(beside, ".3g"), size.cell(None, ",.0f")])
    return Table("Cold start", ["", "seconds to the end of the first task", "memory by then, MB"], rows)


def shortfalls(peers: Peers) -> Table:
    """What could not be installed or done, in the peer's own words."""
    return Table("What failed", ["", "what", "last words"], [list(row) for row in _failures(peers)], texts=3)


def _failures(peers: Peers) -> Iterator[tuple[str, str, str]]:
    for peer in peers:
        if "failed" in peer:
            yield label(peer), "all", _short(peer["failed"])
        for key, case in peer["cases"].items():
            if "failed" in case:
                yield label(peer), key.partition(" ")[2], _short(case["failed"])


def _short(text: str) -> str:
    return text.replace("|", "/") if len(text) < 200 else text[:200].replace("|", "/") + " ..."
