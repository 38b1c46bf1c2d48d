"""What waits to be written, and how whoever writes it is woken.

Runs add to it from their own threads, one thread takes from it. There is no lock: whoever adds something first adds it
and then looks whether the writer sleeps, and the writer first says that it sleeps and then looks whether there is
something. Waking it is a system call, so it is done once for many additions.
"""

from __future__ import annotations

import threading  # noqa: TID251 (a thread sleeps here)
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from penstock.errors import HistoryError
from penstock.signals import Signal
from penstock_history.recording.lives import Life, More, Progress
from penstock_history.records import FLOWS, Group, Row

__all__ = ("MOST_WAITING", "Backlog", "Batch", "Promise")

T = TypeVar("T")

MOST_WAITING = 20_000
"""Runs with news that wait at most, some ten megabytes: a tenth of a second of the quickest fan-out, so that the
writer never runs dry, and no more (benchmarks/history.py)."""

_MOST_STATES = 20_000
_RESUMES = FLOWS.index("resumes") - 1
_MOST_CHARACTERS = 16 << 20


@dataclass(slots=True, eq=False)
class Promise:
    """Somebody waits until all is written that was there before.

    Attributes:
        signal: Completed with None, or with the error that made it impossible.
        since: When it was made, on a monotonic clock.
        life: The run on whose behalf, if it is on one's.
        before: What to go back to if it cannot be written, where that may not be: whoever waits gets the error then.
            Without it he is let go on.
    """

    signal: Signal
    since: float
    life: Life | None = None
    before: Progress | None = None

    @property
    def firm(self) -> bool:
        """Whether it has to be kept."""
        return self.before is not None

    def keep(self) -> None:
        """It is written."""
        more = self.life.more if self.life is not None else None
        self.signal.complete(more.refusal if more is not None else None)

    def break_off(self, error: HistoryError) -> None:
        """It cannot be written, or not in time."""
        if self.life is None or self.before is None:
            self.signal.complete()
            return
        self.life.now = self.before
        self.life.rare.result = None
        self.signal.complete(error)


@dataclass(slots=True, eq=False)
class Batch:
    """What is to be written together."""

    lives: list[Life]
    states: list[Row]
    lines: list[Row]
    _told: list[tuple[More, Row | None, Row | None]] = field(default_factory=list[tuple[More, Row | None, Row | None]])

    def __bool__(self) -> bool:
        return bool(self.lives or self.states or self.lines)

    def group(self, key_of: Callable[[int], int]) -> Group:
        """The rows, as things stand now.

        Args:
            key_of: Gives the key of a run.
        """
        group = Group()
        self._told.clear()
        keys = _Keys(key_of)
        for life in self.lives:
            if life.written:
                group.changes.append(life.change(key_of))
            else:
                group.runs.append(life.row(key_of, keys))
            if life.more is not None:
                self._add_more(group, key_of(life.birth[0]), life.more)
        group.states = [(key_of(run), *rest) for run, *rest in self.states]
        group.logs = [(number, key_of(run), *rest) for number, run, *rest in self.lines]
        return group

    def _add_more(self, group: Group, key: int, more: More) -> None:
        flow, result = more.flow, more.result
        self._told.append((more, flow, result))
        if flow is not None:
            group.flows.append((key, *flow))
        if result is not None:
            group.results.append((key, *result))

    def take_out_resuming(self) -> list[Life]:
        """Leave out the new runs that continue others, and give them."""
        resuming = [
            life for life in self.lives if life.more is not None and life.more.flow and life.more.flow[_RESUMES]
        ]
        self.lives = [life for life in self.lives if life not in resuming]
        return resuming

    def written(self) -> None:
        """Take note that all of it is in the database."""
        for life in self.lives:
            life.written = True
        for more, flow, result in self._told:
            if more.flow is flow:
                more.flow = None
            if more.result is result:
                more.result = None


class _Keys(dict[int | None, int | None]):
    """The keys of parents and roots, which many runs share."""

    def __init__(self, key_of: Callable[[int], int]) -> None:
        super().__init__({None: None})
        self._key_of = key_of

    def __missing__(self, run_id: int | None) -> int | None:
        assert run_id is not None
        self[run_id] = key = self._key_of(run_id)
        return key


class Backlog:
    """What waits to be written.

    Args:
        start: Called when something is added and nobody sleeps here yet.

    Attributes:
        lives: Runs with news, each once.
        asleep: Whether whoever adds something has to call `wake`.
        lost_runs: How many runs are not recorded because there was no room.
        lost_rows: How many transitions and log lines were dropped for that reason.
    """

    def __init__(self, start: Callable[[], None]) -> None:
        self.lives: deque[Life] = deque()
        self.asleep = True
        self.lost_runs = 0
        self.lost_rows = 0
        self._states: deque[Row] = deque()
        self._lines: deque[Row] = deque()
        self._characters = 0
        self._promises: deque[Promise] = deque()
        self._start = start
        self._bell = threading.Event()
        self._hurry = False

    def __bool__(self) -> bool:
        return bool(self.lives or self._promises or self._states or self._lines)

    def add_state(self, row: Row) -> None:
        """Take a transition with a row of its own; begins with the run's id instead of its key."""
        if len(self._states) < _MOST_STATES:
            self._states.append(row)
        else:
            self.lost_rows += 1

    def add_line(self, row: Row) -> None:
        """Take a log line; the second column is the run's id instead of its key, the last is the message."""
        if self._characters > _MOST_CHARACTERS:
            self.lost_rows += 1
            return
        self._characters += len(row[-1]) + 100
        self._lines.append(row)
        if self.asleep:
            self.wake()

    def add_promise(self, promise: Promise) -> None:
        """Take a promise to write, without delay, all that was added before it."""
        self._promises.append(promise)
        self.hurry()

    def hurry(self) -> None:
        """Let the writer gather no longer."""
        self._hurry = True
        if self.asleep:
            self.wake()
        else:
            self._bell.set()

    def wake(self) -> None:
        """Tell the writer that there is something."""
        self.asleep = False
        self._bell.set()
        self._start()

    def losses(self) -> str:
        """What was lost since this was last asked, as the end of a sentence."""
        runs, self.lost_runs = self.lost_runs, 0
        rows, self.lost_rows = self.lost_rows, 0
        return f"; {runs} runs and {rows} transitions and log lines were not recorded" if runs or rows else ""

    def sleep(self, timeout: float) -> None:
        """Wait until there is something, or until the time is over."""
        self.asleep = True
        if not self:
            self._bell.wait(timeout)
        self.asleep = False

    def gather(self, seconds: float) -> None:
        """Let more come, unless somebody waits for what is there."""
        self._bell.clear()
        if not self._hurry:
            self._bell.wait(seconds)

    def take_promises(self) -> list[Promise]:
        """Take the promises; what was added before them can still be taken."""
        self._hurry = False
        return _taken(self._promises, len(self._promises))

    def put_promises_back(self, promises: list[Promise]) -> None:
        """They could not be kept yet."""
        self._promises.extendleft(reversed(promises))

    def take(self, most: int) -> Batch:
        """Take what is there, or the first part of it.

        Args:
            most: How many runs to take at most.
        """
        lives = list(dict.fromkeys(_taken(self.lives, min(most, len(self.lives)))))
        for life in lives:
            life.queued = False  # what changes from here on comes again
        lines = _taken(self._lines, len(self._lines))
        if not self._lines:
            self._characters = 0
        return Batch(lives, _taken(self._states, len(self._states)), lines)

    def put_back(self, batch: Batch) -> None:
        """It could not be written."""
        for life in reversed(batch.lives):
            if not life.queued:
                life.queued = True
                self.lives.appendleft(life)
        self._states.extendleft(reversed(batch.states))
        self._lines.extendleft(reversed(batch.lines))


def _taken(queue: deque[T], count: int) -> list[T]:
    return [queue.popleft() for _ in range(count)]
