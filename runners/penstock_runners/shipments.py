"""Calls on their way to a cluster and outcomes on their way back, as far as Dask and Ray have it in common.

Both have a thread of ours beside them, the clerk, that packs, sends, unpacks and reports. So a submission never blocks
its caller, a report never runs on a library's own thread, and what is under way belongs to one thread, without locks.
"""

from __future__ import annotations

import logging
import queue
import threading  # noqa: TID251 (the clerk is a thread)
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from penstock.ports import Call, LogLine, Outcome, Report

__all__ = ("Clerk", "Shipment")

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

        def answering() -> None:
            try:
                answer.set_result(order())
            except BaseException as error:
                answer.set_exception(error)

        self._orders.put(answering)
        return answer.result()

    def dismiss(self) -> None:
        """Do what has been ordered so far, and end; a clerk may dismiss itself."""
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


class Shipment:
    """The calls of one submission; each is reported once, whoever is first to say how it ended.

    Attributes:
        name: The task's name.
        calls: The calls in the order of the batch's items.
        handle: The cluster's own handle for the submission, once it is sent.
        unwanted: Calls that were cancelled.
    """

    def __init__(self, calls: Sequence[Call], report: Report) -> None:
        self.name = calls[0].work.name
        self.handle: Any = None
        self.unwanted: set[Call] = set()
        self._report = report
        self._open = dict(enumerate(calls))

    @property
    def waiting(self) -> Iterator[Call]:
        """The calls that have not been reported."""
        return iter(self._open.values())

    @property
    def done(self) -> bool:
        """Whether every call has been reported."""
        return not self._open

    @property
    def unwanted_whole(self) -> bool:
        """Whether every call that has not been reported was cancelled."""
        return self.unwanted.issuperset(self._open.values())

    def deliver(self, index: int, outcome: Outcome) -> Call | None:
        """Report one call, unless it has been.

        Returns:
            The call, if it was reported now.
        """
        call = self._open.pop(index, None)
        if call is not None:
            self._report(call, outcome)
        return call

    def deliver_line(self, index: int, line: LogLine, take: Callable[[Call, LogLine], None] | None) -> None:
        """Hand on a log line of a call that still runs."""
        if take is not None and (call := self._open.get(index)) is not None:
            take(call, line)

    def deliver_rest(self, make: Callable[[Call], Outcome]) -> list[Call]:
        """Report every call that has not been, and give them back."""
        rest = [(index, call) for index, call in self._open.items()]
        return [call for index, call in rest if self.deliver(index, make(call)) is not None]
