"""The calls that the process runner's pool has accepted, and the queue of the shipments that no worker has yet.

Every call is booked from the moment that it is accepted until somebody takes it out, whose duty it then is to report
it: that is what makes it exactly one report. Whoever uses the books holds the pool's lock; reports are made without it,
so that a report may submit more.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from penstock.ports import Call, Report
from penstock_runners.members import Shipment, Verdict

__all__ = ("Bookings", "News", "tell")

_log = logging.getLogger("penstock.runners")


class News(NamedTuple):
    """Something to report, once the lock is released."""

    shipment: Shipment
    call: Call
    report: Report
    make: Verdict


def tell(news: Iterable[News]) -> None:
    """Report; what a report raises is logged, and keeps nobody else from hearing."""
    for shipment, call, report, make in news:
        try:
            report(call, make(shipment, call))
        except Exception:
            _log.exception("what reports the outcome of task %r failed", call.work.name)


class Bookings:
    """Who waits for what."""

    def __init__(self) -> None:
        self._queue: deque[Shipment] = deque()
        self._where: dict[Call, tuple[Shipment, int]] = {}

    @property
    def queued(self) -> int:
        """How many shipments no worker has."""
        return len(self._queue)

    def add(self, shipment: Shipment) -> None:
        """Book a shipment's calls, and queue it."""
        self._note(shipment)
        self._queue.append(shipment)

    def add_first(self, shipment: Shipment) -> None:
        """Book what is left of a shipment whose worker has died, and queue it before all others."""
        self._note(shipment)
        self._queue.appendleft(shipment)

    def find(self, call: Call) -> tuple[Shipment, int] | None:
        """The shipment that a call is in and its index there, unless it is or will be reported."""
        return self._where.get(call)

    def next(self) -> Shipment | None:
        """The first queued shipment, without the calls that were taken out while it waited."""
        while self._queue:
            shipment = self._queue.popleft()
            if len(shipment.calls) == len(shipment.batch.items):
                return shipment
            rest = shipment.rest(-1)
            if rest is not None:
                self._note(rest)
                return rest
        return None

    def take_out(self, shipment: Shipment, indexes: Iterable[int], make: Verdict) -> list[News]:
        """Make it the caller's duty to report these calls."""
        news: list[News] = []
        for index in indexes:
            call = shipment.calls.pop(index)
            del self._where[call]
            news.append(News(shipment, call, shipment.report, make))
        return news

    def take_out_unentered(self, make: Verdict) -> list[News]:
        """Take out every call that no worker has entered; none of them will be."""
        news: list[News] = []
        for shipment, index in list(self._where.values()):
            if shipment.member is None or shipment.member.revoke(index):
                news += self.take_out(shipment, [index], make)
        self._queue.clear()
        return news

    def take_out_queued(self, make: Verdict) -> list[News]:
        """Take out the calls of every shipment that no worker has."""
        news = [each for shipment in self._queue for each in self.take_out(shipment, list(shipment.calls), make)]
        self._queue.clear()
        return news

    def take_out_all(self, make: Verdict) -> list[News]:
        """Take out every call."""
        news = [each for place in list(self._where.values()) for each in self.take_out(place[0], [place[1]], make)]
        self._queue.clear()
        return news

    def _note(self, shipment: Shipment) -> None:
        for index, call in shipment.calls.items():
            self._where[call] = (shipment, index)
