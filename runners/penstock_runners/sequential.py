"""One attempt after the other, in the thread that submits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from penstock.ports import Call, Report
from penstock_runners.base import TaskRunner
from penstock_runners.inprocess import execute, execute_in_time

__all__ = ("SequentialTaskRunner",)


class SequentialTaskRunner(TaskRunner):
    """Executes every call at once, where it is submitted: for debugging, and for work that must keep its order.

    `submit` returns when the calls have ended, which is the one liberty that it takes with rule 2 of the contract.
    """

    ordered: ClassVar[bool] = True

    @property
    def capacity(self) -> int:
        """One."""
        return 1

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Execute the calls, one after the other."""
        clock = self.clock
        for call in calls:
            report(call, execute(call) if call.work.timeout is None else execute_in_time(call, clock))

    def duplicate(self) -> Self:
        """Another sequential runner."""
        return type(self)()
