# From docs/howto/write-a-runner.md.
"""A task runner of one's own, as short as it gets: threads and a queue."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Self

from penstock.errors import Cancelled, TimedOut
from penstock.ports import Call, Clock, Outcome, Report
from penstock.runners import TaskRunner


class MyRunner(TaskRunner):
    capacity = 2

    def open(self, clock: Clock) -> None:
        super().open(clock)
        self.queue: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self.waiting: dict[Call, Report] = {}
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(self.capacity)]
        for thread in self.threads:
            thread.start()

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        _ = self.clock  # raises RunnerClosed if there is none
        for call in calls:
            self.waiting[call] = report
            self.queue.put(call)

    def cancel(self, call: Call) -> bool:
        report = self.waiting.pop(call, None)
        if report is not None:
            report(call, Outcome(error=Cancelled("cancelled in the queue")))
        return report is not None

    def work(self) -> None:
        while (call := self.queue.get()) is not None:
            report = self.waiting.pop(call, None)
            if report is not None:
                report(call, self.execute(call))

    def execute(self, call: Call) -> Outcome:
        if call.work.timeout is None:
            return self.enter(call)
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(self.enter(call)), daemon=True)
        thread.start()
        thread.join(call.work.timeout)
        return outcomes[0] if outcomes else Outcome(error=TimedOut(f"{call.run.name} took too long"))

    def enter(self, call: Call) -> Outcome:
        work, started = call.work, time.time()
        try:
            value = call.context.run(work.function, *call.args, **work.constants, **call.kwargs)
            outcome = Outcome(value=list(value) if work.is_generator else value)
        except BaseException as error:
            outcome = Outcome(error=error)
        outcome.started, outcome.ended, outcome.worker = started, time.time(), threading.current_thread().name
        return outcome

    def close(self, grace: float) -> None:
        for call in list(self.waiting):
            self.cancel(call)
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join(grace / self.capacity)
        super().close(grace)

    def duplicate(self) -> Self:
        return type(self)()
