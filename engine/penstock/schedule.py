"""What goes to a runner, when, and how much at a time. Pure: events go in, batches come out.

A run that is ready waits here, as its bare record, until its runner has room; only then does it begin to run. A
remote runner pays for every submission, some 80 µs for a process and 2,000 for Dask, and a task may take ten. So
calls of the same work go together, and the question is how many. Too few, and the trip costs more than the work; too
many, and a worker idles while another one has hours in its queue. The answer is the one of guided self-scheduling:

* At most two batches for each worker are out at a time, one that it works on and one that waits at its door, so no
  worker starves. What becomes ready meanwhile stays here, and is cut when a batch has come home.
* The first calls go out alone and at once: a single call never waits for company.
* A batch is to last about as long as makes its trip cheap (`TaskRunner.batch_seconds`), by what calls of this work
  have lasted so far; it is never more than four times the last one, since a measurement of a few calls is not to be
  trusted with thousands; and never more than an equal share of what is queued, so that the end is shared out evenly.
* That share shrinks with the queue, down to single calls, each with a trip of its own. So where a batch lasts less
  than a tenth of `batch_seconds` it is no smaller than the one before: workers then end so much apart at most.

Where the user fixed the number, batches have exactly that many calls, but for the last of a map.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from penstock.ports import Work

__all__ = ("BatchSize", "Batcher", "Item")

BatchSize: TypeAlias = int | Literal["auto"]


class Item(Protocol):
    """What is scheduled: a task run that is ready for an attempt."""

    @property
    def work(self) -> Work:
        """What the run's call shares with others, and what may share a batch with it."""
        ...


ItemT = TypeVar("ItemT", bound=Item)

_OUT_PER_WORKER = 2
_GROWTH = 4
_SMOOTHING = 0.3
"""How much the newest measurement counts; chosen with the two constants above by benchmarks/batching.py."""

_WORTH_A_TRIP = 0.1
"""The part of `batch_seconds` below which batches stop shrinking: the last 700 short calls of a map of 10,000 take 4
trips instead of 21."""

_SHORTEST = 25e-6
"""Seconds that a call lasts at least: what a worker does around its function takes that long (benchmarks/wire.py)."""


@dataclass(slots=True)
class _Queue:
    """The runs of one work that are ready, in order, and what is known about its calls.

    An `OrderedDict`, because a plain one looks for its first item past all that were taken from its front: 36 µs
    instead of 0.7 when one at a time is taken out of 100,000 (benchmarks/scaling.py).
    """

    size: BatchSize
    items: OrderedDict[Any, None] = field(default_factory=OrderedDict[Any, None])
    held: bool = False
    seconds: float | None = None
    last: int = 1


class Batcher(Generic[ItemT]):
    """Decides which runs go now, and which of them together, for one runner.

    Args:
        workers: How many calls the runner can execute at a time.
        batch_seconds: How long a batch is to last.
    """

    def __init__(self, workers: int, batch_seconds: float) -> None:
        self._workers = max(1, workers)
        self._batch_seconds = batch_seconds
        self._queues: dict[Work, _Queue] = {}
        self._out = 0

    @property
    def waiting(self) -> int:
        """How many runs wait for room."""
        return sum(len(queue.items) for queue in self._queues.values())

    def add(self, item: ItemT, size: BatchSize) -> list[Sequence[ItemT]]:
        """A run is ready.

        Args:
            item: The run.
            size: How many calls of its work shall go together.

        Returns:
            The batches to send now.
        """
        queue = self._queues.get(item.work)
        if queue is None:
            queue = self._queues[item.work] = _Queue(size)
        queue.items[item] = None
        return self._cut() if self._has_room(queue) else []

    def hold(self, work: Work, size: BatchSize) -> list[Sequence[ItemT]]:
        """More calls of this work follow at once: batches of a fixed size wait until they are full."""
        self._queues.setdefault(work, _Queue(size)).held = True
        return []

    def release(self, work: Work) -> list[Sequence[ItemT]]:
        """That was the last of them."""
        queue = self._queues.get(work)
        if queue is not None:
            queue.held = False
        return self._cut()

    def withdraw(self, item: ItemT) -> bool:
        """Take a run back; False if it has been sent."""
        queue = self._queues.get(item.work)
        if queue is None or item not in queue.items:
            return False
        del queue.items[item]
        return True

    def came_home(self, work: Work, seconds: float, calls: int = 1) -> None:
        """Calls of this work have ended, after so many seconds each on average."""
        queue = self._queues.get(work)
        if queue is not None:
            measured = max(seconds, _SHORTEST)
            known = measured if queue.seconds is None else queue.seconds
            queue.seconds = known + (1 - (1 - _SMOOTHING) ** calls) * (measured - known)

    def batch_done(self) -> list[Sequence[ItemT]]:
        """All calls of a batch have come home, so there is room for another."""
        self._out -= 1
        if not self._out:
            self._queues = {work: queue for work, queue in self._queues.items() if queue.items or queue.held}
        return self._cut()

    def _has_room(self, queue: _Queue) -> bool:
        return self._out < _OUT_PER_WORKER * self._workers or queue.size not in ("auto", 1)

    def _cut(self) -> list[Sequence[ItemT]]:
        batches: list[Sequence[ItemT]] = []
        progress = True
        while progress:
            progress = False
            # One batch of each work in turn: a long map does not keep a short one waiting. There is often room for one
            # batch only, so whoever had its turn goes to the end of the line.
            for work, queue in tuple(self._queues.items()):
                count = self._count(queue)
                if count:
                    batches.append(list(itertools.islice(queue.items, count)))
                    for item in batches[-1]:
                        del queue.items[item]
                    queue.last = count
                    self._queues[work] = self._queues.pop(work)
                    self._out += 1
                    progress = True
        return batches

    def _count(self, queue: _Queue) -> int:
        """How many runs of this queue to send now."""
        ready = len(queue.items)
        if not ready or not self._has_room(queue):
            return 0
        if queue.size != "auto":
            return queue.size if ready >= queue.size else 0 if queue.held else ready
        if queue.seconds is None:
            return 1
        by_time = int(self._batch_seconds / queue.seconds)
        by_share = math.ceil(ready / (_OUT_PER_WORKER * self._workers))
        worth_a_trip = int(_WORTH_A_TRIP * self._batch_seconds / queue.seconds)
        share = max(by_share, min(worth_a_trip, queue.last))
        return max(1, min(by_time, share, _GROWTH * queue.last, ready))
