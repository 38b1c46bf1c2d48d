"""A run and the runs inside it as a tree, each with a bar that shows when it waited and when it ran.

::

    etl            Completed  1.2 s  ·━━━━━━━━━━━━━━━━━━━━━━━━
    ├─ extract     Completed  0.4 s   ━━━·····━━━━
    ├─ load-001    Cached     0.0 s               ·
    └─ 998 of load Completed  0.8 s               ··━━━━━━━━━━

Many runs of one definition under the same parent share a line; those of them that did not complete have their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from penstock.cli.output import Cell
from penstock.cli.words import duration, state_cell
from penstock_history.records import AttemptRecord, RunRecord

__all__ = ("Line", "Tree", "draw")

_ALONE = 12
"""Runs of one definition that have a line each; more share one."""
_BAD = 5
"""Runs of a shared line that did not complete and are shown."""

Attempts = Mapping[UUID, Sequence[AttemptRecord]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the tree.

    Attributes:
        label: Its branches and its name.
        state: What became of it.
        created: When it was made.
        ended: When it ended, or None.
        running: When it was running, from when to when; an end that is not there yet is None.
    """

    label: str
    state: Cell
    created: float
    ended: float | None
    running: Sequence[tuple[float, float | None]]


class Tree:
    """The runs inside a run.

    Args:
        inside: All of them, in the order in which they were made.
        attempts: The attempts of those that had several.
        everything: Whether every run has a line of its own.
    """

    def __init__(self, inside: Iterable[RunRecord], attempts: Attempts, everything: bool) -> None:
        self._children: defaultdict[UUID | None, list[RunRecord]] = defaultdict(list)
        for run in inside:
            self._children[run.parent].append(run)
        self._attempts = attempts
        self._everything = everything

    def lines(self, root: RunRecord) -> Iterator[Line]:
        """The lines of a run and of what is inside it."""
        yield self._line("", [root])
        yield from self._below(root.id, "")

    def _below(self, parent: UUID, indent: str) -> Iterator[Line]:
        entries = list(self._entries(self._children.get(parent, ())))
        for place, runs in enumerate(entries):
            last = place == len(entries) - 1
            branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield self._line(indent + branch, runs)
            if len(runs) == 1:
                yield from self._below(runs[0].id, indent + below)

    def _entries(self, runs: Sequence[RunRecord]) -> Iterator[list[RunRecord]]:
        """The runs that share a line each: one, or many of one definition."""
        same: defaultdict[str, list[RunRecord]] = defaultdict(list)
        for run in runs:
            same[run.definition].append(run)
        for run in runs:
            group = same[run.definition]
            if self._everything or len(group) <= _ALONE:
                yield [run]
            elif run is group[0]:
                yield group
                yield from ([bad] for bad in [each for each in group if each.type not in _FINE][:_BAD])

    def _line(self, branch: str, runs: Sequence[RunRecord]) -> Line:
        if len(runs) > 1:
            return _shared_line(branch, runs)
        (run,) = runs
        tries = f" ({run.attempts} attempts)" if run.attempts > 1 else ""
        running: list[tuple[float, float | None]] = [] if run.started is None else [(run.started, run.ended)]
        if run.id in self._attempts:
            running = [(attempt.started, attempt.ended) for attempt in self._attempts[run.id]]
        return Line(f"{branch}{run.name}{tries}", state_cell(run.type, run.state), run.created, run.ended, running)


_FINE = ("COMPLETED", "PENDING")


def _shared_line(branch: str, runs: Sequence[RunRecord]) -> Line:
    """One line for many runs: from the first beginning to the last end."""
    starts = [run.started for run in runs if run.started is not None]
    ends = [run.ended for run in runs if run.ended is not None]
    ended = max(ends) if len(ends) == len(runs) else None
    states = Counter((run.type, run.state) for run in runs).most_common()
    worst = next((kind for (kind, _), _ in states if kind != "COMPLETED"), "COMPLETED")
    told = ", ".join(f"{count:,} {state}" for (_, state), count in states)
    return Line(
        f"{branch}{len(runs):,} of {runs[0].definition}",
        state_cell(worst, told),
        min(run.created for run in runs),
        ended,
        [(min(starts), ended)] if starts else [],
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """What the left and right ends of the bars stand for, and how wide they are."""

    first: float
    last: float
    width: int

    def bar(self, line: Line) -> str:
        """Room, dots while it waited, and a line while it ran."""
        created, ended = self._column(line.created), self._column(line.ended)
        columns = [" "] * created + ["·"] * (ended - created + 1)
        for start, end in line.running:
            first, last = self._column(start), self._column(end)
            columns[first : last + 1] = "━" * (last - first + 1)
        return "".join(columns)

    def _column(self, time: float | None) -> int:
        length = self.last - self.first
        if time is None:
            return self.width - 1
        return 0 if length <= 0 else min(self.width - 1, max(0, int((time - self.first) / length * self.width)))


def draw(lines: Sequence[Line], width: int, now: float) -> Iterator[list[Cell]]:
    """The lines as cells, fitting a width.

    Args:
        lines: The tree.
        width: How many characters a line may have.
        now: When what goes on has got to.
    """
    first = min(line.created for line in lines)
    last = max(now if line.ended is None else line.ended for line in lines)
    labels = [_shortened(line.label, max(12, width * 2 // 5)) for line in lines]
    states = [_shortened(line.state.text, max(9, width // 4)) for line in lines]
    took = [duration((line.ended or last) - (line.running[0][0] if line.running else line.created)) for line in lines]
    label_width, state_width, took_width = (max(map(len, texts)) for texts in (labels, states, took))
    scale = _Scale(first, last, max(4, width - label_width - state_width - took_width - 6))
    for line, label, state, seconds in zip(lines, labels, states, took, strict=True):
        yield [
            Cell(f"{label:{label_width}}  ", ""),
            Cell(f"{state:{state_width}}  ", line.state.style),
            Cell(f"{seconds:>{took_width}}  ", ""),
            *(
                Cell("".join(part), line.state.style if kind == "━" else "dim")
                for kind, part in groupby(scale.bar(line))
            ),
        ]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
