"""Calls on their way to a cluster and outcomes on their way back, as far as Dask and Ray have it in common.

Both have a thread of ours beside them, the clerk, that packs, sends, unpacks and reports. So a submission never blocks
its caller, and a report never runs on a thread of a library's. What is under way stands in a manifest, where whoever
is first to say how a call ended is the one who reports it.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading  # noqa: TID251 (the clerk is a thread, and closing waits)
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from penstock.errors import Cancelled, CrashedRun
from penstock.ports import Call, Outcome, Report

__all__ = ("WORKER_GONE", "Clerk", "Manifest", "Shipment", "cancelled", "crash")

T = TypeVar("T")
logger = logging.getLogger("penstock.runners")


class Clerk:
    """One thread that does what it is told, in order, until it is dismissed."""

    def __init__(self, name: str) -> None:
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def tell(self, order: Callable[[], object]) -> None:
        """Have something done, some time."""
        self._orders.put(order)

    def ask(self, order: Callable[[], T]) -> T:
        """Have something done, and wait for what comes of it."""
        answer: Future[T] = Future()
        self._orders.put(partial(_answer, answer, order))
        return answer.result()

    def dismiss(self) -> None:
        """Have the clerk do what was ordered so far, and end."""
        self._orders.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                order()
            except Exception:
                logger.exception("%s failed in an order; this is a defect of Penstock", self._thread.name)
            order = None  # an idle clerk keeps nobody's values alive


def _answer(answer: Future[T], order: Callable[[], T]) -> None:
    try:
        answer.set_result(order())
    except BaseException as error:
        answer.set_exception(error)


class Shipment:
    """The calls of one submission.

    Attributes:
        number: Which submission it is, counted from 0.
        name: The task's name.
        lock: Held while the submission is packed and sent, and by whoever wants to know whether it has been.
        sent: Whether it was handed to the cluster.
        handle: The cluster's own handle, once it is sent.
        cancelled: Whether the cluster was asked to cancel all of it.
        lives: How many more times what no worker has entered may be sent again.
        report: Where the outcomes go.
        waiting: The calls that have not been reported, by their place in the batch.
    """

    __slots__ = ("cancelled", "handle", "lives", "lock", "name", "number", "report", "sent", "waiting")

    def __init__(self, number: int, calls: Sequence[Call], report: Report, lives: int) -> None:
        self.number = number
        self.name = calls[0].work.name
        self.lock = threading.Lock()
        self.sent = False
        self.handle: Any = None
        self.cancelled = False
        self.lives = lives
        self.report = report
        self.waiting = dict(enumerate(calls))

    def index(self, call: Call) -> int | None:
        """The call's place in the batch, unless it has been reported."""
        return next((index for index, other in list(self.waiting.items()) if other is call), None)


class Manifest:
    """What is under way; every call in it is reported once, from whichever thread learns first how it ended."""

    # A worker that dies before it has entered anything may be the fault of what was sent: so many more are risked.
    LIVES = 2

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._numbers = itertools.count()
        self._shipments: dict[int, Shipment] = {}
        self._places: dict[Call, Shipment] = {}

    def add(self, calls: Sequence[Call], report: Report, lives: int = LIVES) -> Shipment:
        """Enter a submission."""
        with self._changed:
            shipment = Shipment(next(self._numbers), calls, report, lives)
            self._shipments[shipment.number] = shipment
            self._places.update(dict.fromkeys(calls, shipment))
        return shipment

    def get(self, number: int) -> Shipment | None:
        """The submission of that number, unless it has ended."""
        return self._shipments.get(number)

    def of(self, call: Call) -> Shipment | None:
        """The submission of a call that has not been reported."""
        return self._places.get(call)

    @property
    def all(self) -> list[Shipment]:
        """Every submission under way."""
        with self._changed:
            return list(self._shipments.values())

    def deliver(self, shipment: Shipment, index: int, outcome: Outcome) -> None:
        """Report a call, unless it has been."""
        call = shipment.waiting.pop(index, None)
        if call is not None:
            self._report(shipment, call, outcome)

    def gone(self, shipment: Shipment, timeout: float) -> bool:
        """Wait until all of a submission is reported, at most that many seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not shipment.waiting, timeout)

    def _report(self, shipment: Shipment, call: Call, outcome: Outcome) -> None:
        shipment.report(call, outcome)
        with self._changed:
            self._places.pop(call, None)
            if not shipment.waiting or not self._places:
                self._changed.notify_all()

    def take_back(self, call: Call) -> bool | None:
        """Cancel a call that has not been sent, and report it.

        Returns:
            True if that was done, False if it has been sent, None if it has been reported.
        """
        if (shipment := self.of(call)) is None:
            return None
        with shipment.lock:
            index = shipment.index(call)
            if index is None or shipment.sent:
                return None if index is None else False
            del shipment.waiting[index]
        self._report(shipment, call, Outcome(error=Cancelled()))
        return True

    def end(self, shipment: Shipment, make: Callable[[int, Call], Outcome]) -> None:
        """Strike a submission off, and report what of it has not been reported."""
        for index, call in list(shipment.waiting.items()):
            self.deliver(shipment, index, make(index, call))
        with self._changed:
            self._shipments.pop(shipment.number, None)

    def lose(self, shipment: Shipment, entered: int, what: str, reason: str) -> Shipment | None:
        """Strike off a submission whose worker was lost.

        Args:
            shipment: The submission.
            entered: How many of its calls may have been entered, its first ones.
            what: What happened, for people.
            reason: The same as a word for programs.

        Returns:
            What no worker has entered, to be sent again; None if there is nothing or its lives are used up.
        """
        again = None
        if shipment.lives:
            untouched = [shipment.waiting.pop(index) for index in sorted(shipment.waiting) if index >= entered]
            again = self.add(untouched, shipment.report, shipment.lives - 1) if untouched else None
        self.end(shipment, lambda index, call: crash(call, what, reason, index < entered))
        return again

    def wait(self, timeout: float) -> None:
        """Wait until everything is reported, at most that many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._places, timeout)


def cancelled(*_: object) -> Outcome:
    """The outcome of a call that was given up."""
    return Outcome(error=Cancelled())


WORKER_GONE = frozenset({"worker_lost", "out_of_memory", "node_lost", "frozen"})
"""A worker that went like this says nothing against what it had, nor against the cluster."""


def crash(call: Call, what: str, reason: str, entered: bool) -> Outcome:
    """The outcome of a call that was lost.

    Args:
        call: The call.
        what: What happened, for people.
        reason: The same as a word for programs.
        entered: Whether its function may have been entered.
    """
    advice = "It may have run in part; a task that can safely run again says so with crash_retries=n"
    message = f"task {call.work.name!r} was lost: {what}. {advice if entered else 'It had not been entered'}."
    return Outcome(crash=CrashedRun(message, reason, entered, hopeless=reason not in WORKER_GONE))
