"""The plots of the page, drawn from the kept figures alone, and the same every time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import peer_tables
from peer_tables import NAMES, Peers, figure, per_task, rounds
from peers.work import PARALLEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Ours is the one to look for; the floor is black. The others are told apart, and no more.
COLOURS = {
    "bare": "black",
    "penstock": "#d62728",
    "prefect": "#1f77b4",
    "dagster": "#9467bd",
    "dbos": "#2ca02c",
    "parsl": "#ff7f0e",
    "taskiq": "#17becf",
    "hamilton": "#bcbd22",
    "joblib": "#7f7f7f",
}
STYLES = {"called": "-", "async": "--", "threads": "-", "processes": ":", "dask": "-.", "ray": (0, (3, 1, 1, 1, 1, 1))}
MARKERS = {"called": "o", "async": "s", "threads": "o", "processes": "^", "dask": "D", "ray": "v"}

Draw = Callable[[], "Figure"]


def svg(draw: Draw) -> bytes:
    """Draw as SVG: the same bytes for the same figures."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "penstock", "font.size": 9}):
        drawn = draw()
        written = io.BytesIO()
        drawn.savefig(written, format="svg", metadata={"Date": None})
        pyplot.close(drawn)
    lines = written.getvalue().decode().splitlines()
    return ("\n".join(line.rstrip() for line in lines) + "\n").encode()


def _axes(columns: int, rows: int = 1, width: float = 4.2, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    return drawn, list(axes.flat)


def overhead(peers: Peers) -> Figure:
    """What a no-op task costs on each runner: one bar for each peer that has it."""
    drawn, axes = _axes(3, 2, height=2.8)
    for axis, way in zip(axes, peer_tables.WAYS, strict=True):
        found = {peer["name"]: figure(peer, f"time overhead {way}", per_task) for peer in peers}
        medians = sorted(((each.median, name) for name, each in found.items() if each.values), reverse=True)
        if not medians:
            axis.set_visible(False)  # an empty axis has no logarithmic scale
            continue
        bars = axis.barh(
            [NAMES[name] for _, name in medians],
            [median for median, _ in medians],
            color=[COLOURS[name] for _, name in medians],
        )
        axis.bar_label(bars, labels=[f"{median:,.3g}" for median, _ in medians], padding=3, fontsize=8)
        axis.set(title=way, xscale="log")
        axis.margins(x=0.25)
    for axis in axes[-3:]:
        axis.set_xlabel("µs a task")
    return drawn


def throughput(peers: Peers) -> Figure:
    """Tasks a second against their number: in this process, and on workers."""
    drawn, axes = _axes(2, width=5.2, height=4.2)
    for axis, ways in zip(axes, (("called", "async", "threads"), PARALLEL), strict=True):
        lines = [(name, way, points) for name, way, points in _fan_outs(peers) if way in ways]
        if not lines:
            axis.set_visible(False)
            continue
        for name, way, points in lines:
            rates = [count / seconds for count, seconds in points.items()]
            style = {"linestyle": STYLES[way], "marker": MARKERS[way], "color": COLOURS[name]}
            axis.plot(list(points), rates, label=f"{NAMES[name]}, {way}", **style)
        axis.set(xscale="log", yscale="log", xlabel="tasks", title=", ".join(ways))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("tasks a second")
    return drawn


def _fan_outs(peers: Peers) -> Iterator[tuple[str, str, dict[int, float]]]:
    for peer in peers:
        for way in peer_tables.WAYS:
            keys = [key for key in peer["cases"] if key.startswith(f"time fanout {way} ")]
            found = {int(key.split()[3]): figure(peer, key, rounds) for key in keys}
            if points := {count: each.median for count, each in sorted(found.items()) if each.values}:
                yield peer["name"], way, points


def memory(peers: Peers) -> Figure:
    """The peak of memory against the number of tasks."""
    drawn, (axis,) = _axes(1, width=6.4, height=4.2)
    for peer in peers:
        if points := peer_tables.memory_points(peer):
            name = peer["name"]
            axis.plot(list(points), list(points.values()), "o-", color=COLOURS[name], label=NAMES[name])
    axis.set(xscale="log", yscale="log", xlabel="tasks", ylabel="peak of all processes, MB")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    return drawn


def bandwidth(peers: Peers) -> Figure:
    """Megabytes a second of a large result, there and back."""
    drawn, (axis,) = _axes(1, width=6.4, height=3.2)
    rates = list[tuple[float, str]]()
    for peer in peers:
        case = next((case for key, case in peer["cases"].items() if key.startswith("time large")), {})
        if case.get("rounds") and "failed" not in case and "unfinished" not in case:
            seconds = peer_tables.Figure(tuple(case["rounds"])).median
            rates.append((2 * case["megabytes"] / seconds, peer["name"]))
    rates.sort()
    if not rates:
        axis.set_visible(False)
        return drawn
    bars = axis.barh(
        [NAMES[name] for _, name in rates], [rate for rate, _ in rates], color=[COLOURS[name] for _, name in rates]
    )
    axis.bar_label(bars, labels=[f"{rate:,.0f}" for rate, _ in rates], padding=3, fontsize=8)
    axis.set(xscale="log", xlabel="MB/s, written and read back")
    axis.margins(x=0.2)
    return drawn


def batching(sweeps: list[dict[str, Any]]) -> Figure:
    """The time of a task over the size of its batch."""
    names = list(dict.fromkeys(sweep["runner"] for sweep in sweeps))
    drawn, axes = _axes(len(names), width=4.0, height=3.6)
    for axis, name in zip(axes, names, strict=True):
        for sweep in (sweep for sweep in sweeps if sweep["runner"] == name):
            sizes, medians = list(sweep["medians"]), list(sweep["medians"].values())
            axis.plot(sizes, medians, "o-", label=f"{sweep['seconds'] * 1e3:g} ms")
        axis.set(title=f"{name} runner", xlabel="calls in a batch", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("µs a task, all told")
    axes[-1].legend(title="task lasts")
    return drawn


def ledger(paths: list[dict[str, Any]]) -> Figure:
    """Where the microseconds of a task go, one on top of the other."""
    drawn, (axis,) = _axes(1, width=7.2, height=3.6)
    names = [path["path"] for path in paths][::-1]
    left = [0.0] * len(names)
    for part in paths[0]["parts"]:
        figures = [path["parts"][part] for path in paths][::-1]
        widths = [max(0.0, each["microseconds"]) if each else 0.0 for each in figures]
        axis.barh(names, widths, left=left, label=part)
        left = [begin + width for begin, width in zip(left, widths, strict=True)]
    axis.set(xlabel="µs of processor time a task")
    axis.legend(fontsize=8)
    return drawn
