"""The shipped suite finds what is wrong with runners that are wrong on purpose."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from pathlib import Path

import pytest
from custom_runner import MyRunner

from penstock.errors import PenstockError
from penstock.ports import Call, Clock, Outcome, Report
from penstock_runners.base import TaskRunner
from penstock_runners.testing import RunnerTests


class TestMyRunner(RunnerTests):
    """The runner of the how-to page passes."""

    def make_runner(self) -> TaskRunner:
        return MyRunner()


class LosesReports(MyRunner):
    def submit(self, calls: Sequence[Call], report: Report) -> None:
        kept = list(calls)

        def forgetful(call: Call, outcome: Outcome) -> None:
            if call is not kept[-1] or len(kept) == 1:
                report(call, outcome)

        super().submit(calls, forgetful)


class ReportsTwice(MyRunner):
    def submit(self, calls: Sequence[Call], report: Report) -> None:
        def stutter(call: Call, outcome: Outcome) -> None:
            report(call, outcome)
            report(call, outcome)

        super().submit(calls, stutter)


class RunsTwice(MyRunner):
    def execute(self, call: Call) -> Outcome:
        super().execute(call)
        return super().execute(call)


class SwallowsErrors(MyRunner):
    def execute(self, call: Call) -> Outcome:
        outcome = super().execute(call)
        return Outcome(value=outcome.value)


class RewordsErrors(MyRunner):
    def execute(self, call: Call) -> Outcome:
        outcome = super().execute(call)
        if isinstance(outcome.error, Exception) and not isinstance(outcome.error, PenstockError):
            outcome.error = RuntimeError(str(outcome.error))
        return outcome


class DropsTracebacks(MyRunner):
    def execute(self, call: Call) -> Outcome:
        outcome = super().execute(call)
        if outcome.error is not None:
            outcome.error = outcome.error.with_traceback(None)
        return outcome


class IgnoresCancel(MyRunner):
    def cancel(self, call: Call) -> bool:
        return call in self.waiting


class LiesAboutCancel(MyRunner):
    def cancel(self, call: Call) -> bool:
        report = self.waiting.get(call)
        if report is not None:
            report(call, Outcome(error=PenstockError("as if")))
        return True


class IgnoresTimeouts(MyRunner):
    def execute(self, call: Call) -> Outcome:
        return self.enter(call)


class CountsTimeInTheQueue(MyRunner):
    def submit(self, calls: Sequence[Call], report: Report) -> None:
        self.submitted = {**getattr(self, "submitted", {}), **dict.fromkeys(calls, self.clock.monotonic())}
        super().submit(calls, report)

    def execute(self, call: Call) -> Outcome:
        outcome = super().execute(call)
        late = self.clock.monotonic() - self.submitted[call]
        if call.work.timeout is not None and late > call.work.timeout:
            return Outcome(error=TimeoutError())
        return outcome


class ReportsBatchesTogether(MyRunner):
    def submit(self, calls: Sequence[Call], report: Report) -> None:
        outcomes: list[tuple[Call, Outcome]] = []

        def gather(call: Call, outcome: Outcome) -> None:
            outcomes.append((call, outcome))
            if len(outcomes) == len(calls):
                for pair in outcomes:
                    report(*pair)

        super().submit(calls, gather)


class FailsWholeBatches(MyRunner):
    def submit(self, calls: Sequence[Call], report: Report) -> None:
        failed: list[Outcome] = []

        def contagious(call: Call, outcome: Outcome) -> None:
            if outcome.error is not None:
                failed.append(outcome)
            report(call, failed[0] if failed else outcome)

        super().submit(calls, contagious)


class ForgetsTheContext(MyRunner):
    def enter(self, call: Call) -> Outcome:
        call.context = Context()
        return super().enter(call)


class ForgetsConstants(MyRunner):
    def enter(self, call: Call) -> Outcome:
        call.work.constants = {}
        return super().enter(call)


STAYS = threading.Event()


class LeavesThreads(MyRunner):
    def open(self, clock: Clock) -> None:
        super().open(clock)
        STAYS.clear()
        threading.Thread(target=STAYS.wait, daemon=True).start()


class ClosesWithoutAWord(MyRunner):
    def close(self, grace: float) -> None:
        self.waiting.clear()
        super().close(grace)


class TakesCallsWhenClosed(MyRunner):
    def submit(self, calls: Sequence[Call], report: Report) -> None:
        if self.is_open:
            super().submit(calls, report)


BROKEN: dict[type[MyRunner], str] = {
    LosesReports: "test_values_come_home",
    ReportsTwice: "test_nothing_runs_twice_and_nothing_is_reported_twice",
    RunsTwice: "test_nothing_runs_twice_and_nothing_is_reported_twice",
    SwallowsErrors: "test_an_error_is_the_users_own_with_its_traceback",
    RewordsErrors: "test_an_error_with_an_init_of_its_own_keeps_its_type",
    DropsTracebacks: "test_an_error_is_the_users_own_with_its_traceback",
    IgnoresCancel: "test_a_cancelled_call_in_the_queue_is_never_entered",
    LiesAboutCancel: "test_a_cancelled_call_in_the_queue_is_never_entered",
    IgnoresTimeouts: "test_a_timeout_is_reported_on_time",
    CountsTimeInTheQueue: "test_a_timeout_counts_from_the_entry",
    ReportsBatchesTogether: "test_items_of_a_batch_are_reported_as_they_end",
    FailsWholeBatches: "test_one_failing_call_does_not_fail_its_batch",
    ForgetsTheContext: "test_context_variables_cross_and_changes_stay",
    ForgetsConstants: "test_constants_and_keywords_reach_the_function",
    LeavesThreads: "test_nothing_is_left_behind",
    ClosesWithoutAWord: "test_closing_reports_everything_and_starts_nothing",
    TakesCallsWhenClosed: "test_a_runner_that_is_not_open_takes_nothing",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_runner_fails_the_test_that_names_its_fault(broken: type[MyRunner], tmp_path: Path) -> None:
    class Suite(RunnerTests):
        patience = 1.5

        def make_runner(self) -> TaskRunner:
            return broken()

    suite = Suite()
    test: Callable[..., None] = getattr(suite, BROKEN[broken])
    wanted = inspect.signature(test).parameters
    arguments: dict[str, object] = {"tmp_path": tmp_path} if "tmp_path" in wanted else {}
    try:
        if "runner" in wanted:
            with broken() as runner:
                fails(test, tmp_path / "release", runner=runner, **arguments)
        else:
            fails(test, tmp_path / "release", **arguments)
    finally:
        STAYS.set()


def fails(test: Callable[..., None], release: Path, **arguments: object) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(**arguments)
    release.touch()  # let the functions go that a failed test has left waiting
