"""A run and the runs inside it as a tree, each with a bar that shows when it waited and when it ran.

::

    etl            Completed  1.2 s  ━━━━━━━━━━━━━━━━━━━━━━━━━
    ├─ extract     Completed  0.4 s  ━━━━━━━━━
    ├─ load-001    Cached                     ━
    └─ 998 of load Completed  0.8 s  ·········━━━━━━━━━━━━━━━━

Many runs of one definition under the same parent share a line; those of them that did not complete have their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from penstock.cli.output import Cell
from penstock.cli.words import duration, state_cell
from penstock_history.records import RunRecord

__all__ = ("Bar", "Line", "Span", "draw", "lines_of")

_ALONE = 12
"""Runs of one definition that have a line each; more share one."""
_BAD = 5
"""Runs of a shared line that did not complete and are shown."""


@dataclass(frozen=True, slots=True)
class Span:
    """When something was made, began and ended; an end that is not there yet is None."""

    created: float
    started: float | None
    ended: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the tree.

    Attributes:
        label: Its branches and its name.
        state: What became of it.
        span: When it was.
    """

    label: str
    state: Cell
    span: Span


def lines_of(root: RunRecord, inside: Iterable[RunRecord], everything: bool) -> list[Line]:
    """The lines of the tree.

    Args:
        root: The run at its top.
        inside: All runs inside it, in the order in which they were made.
        everything: Whether every run has a line of its own.
    """
    children: defaultdict[UUID | None, list[RunRecord]] = defaultdict(list)
    for run in inside:
        children[run.parent].append(run)
    top = Line(root.name, state_cell(root.type, root.state), Span(root.created, root.started, root.ended))
    return [top, *_below(root.id, children, "", everything)]


def _below(
    parent: UUID, children: Mapping[UUID | None, Sequence[RunRecord]], indent: str, everything: bool
) -> Iterator[Line]:
    entries = list(_entries(children.get(parent, ()), everything))
    for place, runs in enumerate(entries):
        last = place == len(entries) - 1
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield _line(indent + branch, runs)
        if len(runs) == 1:
            yield from _below(runs[0].id, children, indent + below, everything)


def _entries(runs: Sequence[RunRecord], everything: bool) -> Iterator[list[RunRecord]]:
    """The runs that share a line each: one, or many of one definition."""
    counts = Counter(run.definition for run in runs)
    shared: dict[str, list[RunRecord]] = {}
    for run in runs:
        if everything or counts[run.definition] <= _ALONE:
            yield [run]
        elif run.definition not in shared:
            shared[run.definition] = [other for other in runs if other.definition == run.definition]
            yield shared[run.definition]
            yield from ([bad] for bad in _bad(shared[run.definition]))


def _bad(runs: Iterable[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if run.type not in ("COMPLETED", "PENDING")][:_BAD]


def _line(branch: str, runs: Sequence[RunRecord]) -> Line:
    if len(runs) == 1:
        (run,) = runs
        tries = f" ({run.attempts} attempts)" if run.attempts > 1 else ""
        state, span = state_cell(run.type, run.state), Span(run.created, run.started, run.ended)
        return Line(f"{branch}{run.name}{tries}", state, span)
    starts = [run.started for run in runs if run.started is not None]
    ends = [run.ended for run in runs if run.ended is not None]
    span = Span(
        min(run.created for run in runs),
        min(starts, default=None),
        max(ends) if len(ends) == len(runs) else None,
    )
    states = Counter((run.type, run.state) for run in runs).most_common()
    worst = next((kind for (kind, _), _ in states if kind != "COMPLETED"), "COMPLETED")
    told = ", ".join(f"{count:,} {state}" for (_, state), count in states)
    return Line(f"{branch}{len(runs):,} of {runs[0].definition}", state_cell(worst, told), span)


@dataclass(frozen=True, slots=True)
class Bar:
    """The scale of the bars: what their left and right ends stand for, and how wide they are."""

    first: float
    last: float
    width: int

    def draw(self, span: Span) -> tuple[str, str]:
        """What stands for waiting, with the room before it, and what stands for running."""
        created = self._column(span.created)
        ended = max(created, self._column(self.last if span.ended is None else span.ended))
        if span.started is None:
            return " " * created + "·" * (ended - created + 1), ""
        started = min(max(created, self._column(span.started)), ended)
        return " " * created + "·" * (started - created), "━" * (ended - started + 1)

    def _column(self, time: float) -> int:
        length = self.last - self.first
        return 0 if length <= 0 else min(self.width - 1, max(0, int((time - self.first) / length * self.width)))


def draw(lines: Sequence[Line], width: int, now: float) -> Iterator[list[Cell]]:
    """The lines as cells, fitting a width.

    Args:
        lines: The tree.
        width: How many characters a line may have.
        now: When what goes on has got to.
    """
    first = min(line.span.created for line in lines)
    last = max(now if line.span.ended is None else line.span.ended for line in lines)
    room = max(12, width * 2 // 5)
    labels = [_shortened(line.label, room) for line in lines]
    label_width = max(map(len, labels))
    took = [duration((line.span.ended or last) - (line.span.started or line.span.created)) for line in lines]
    took_width, state_width = max(map(len, took)), min(max(9, width // 4), max(len(line.state.text) for line in lines))
    bar = Bar(first, last, max(4, width - label_width - state_width - took_width - 6))
    for line, label, seconds in zip(lines, labels, took, strict=True):
        waiting, running = bar.draw(line.span)
        state = _shortened(line.state.text, state_width)
        yield [
            Cell(f"{label:{label_width}}  ", ""),
            Cell(f"{state:{state_width}}  ", line.state.style),
            Cell(f"{seconds:>{took_width}}  ", ""),
            Cell(waiting, "dim"),
            Cell(running, line.state.style),
        ]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
