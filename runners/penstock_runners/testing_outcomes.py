# ruff: noqa: D102 (the name of a test says what it checks)
"""The part of the suite for runners about what comes of calls: values, errors, batches, context and logs."""

from __future__ import annotations

import logging
import os
import traceback
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

from penstock.errors import SerializationError
from penstock.ports import Call, Outcome
from penstock_runners import probes
from penstock_runners.base import TaskRunner
from penstock_runners.probes import entries, make_calls
from penstock_runners.testing_base import RunnerSuite

__all__ = ("OutcomeTests",)


class OutcomeTests(RunnerSuite):
    """Each call gives what its function gives, and nobody else's fault."""

    # --- values ---

    def test_values_come_home(self, runner: TaskRunner) -> None:
        outcomes = self.run(runner, make_calls(probes.add, [(i, 1) for i in range(10)]))
        assert [outcome.value for outcome in outcomes] == list(range(1, 11))
        assert all(outcome.error is None and outcome.crash is None for outcome in outcomes)

    def test_constants_and_keywords_reach_the_function(self, runner: TaskRunner) -> None:
        (call,) = make_calls(probes.add, [()], constants={"right": 2})
        call = replace(call, kwargs={"left": 1})
        assert self.run(runner, [call])[0].value == 3

    def test_a_generator_gives_the_list_of_its_items(self, runner: TaskRunner) -> None:
        assert self.one(runner, probes.count_to, 3, is_generator=True).value == [0, 1, 2]

    def test_large_values_come_home_whole(self, runner: TaskRunner) -> None:
        content = os.urandom(5_000_000)
        assert self.one(runner, probes.add, content, b"!").value == content + b"!"

    def test_an_async_function_runs_on_the_worker(self, runner: TaskRunner) -> None:
        self.needs_remote(runner)
        assert self.one(runner, probes.add_later, 1, 2, is_async=True).value == 3

    def test_a_report_may_submit_more(self, runner: TaskRunner) -> None:
        last = self.reports()

        def again(call: Call, outcome: Outcome) -> None:
            (number,) = call.args
            runner.submit(*([next_call(number + 1)], again) if number < 20 else ([final], last))

        def next_call(number: int) -> Call:
            return make_calls(probes.add, [(number,)])[0]

        (final,) = make_calls(probes.add, [(7,)])
        runner.submit([next_call(0)], again)
        assert last.of([final])[0].value == 7

    # --- errors ---

    def test_an_error_is_the_users_own_with_its_traceback(self, runner: TaskRunner) -> None:
        error = self.one(runner, probes.raise_value_error, "no such thing").error
        assert type(error) is ValueError
        assert str(error) == "no such thing"
        assert "in raise_value_error" in _shown(error)

    def test_an_error_keeps_its_cause(self, runner: TaskRunner) -> None:
        error = self.one(runner, probes.raise_from_cause).error
        assert isinstance(error, RuntimeError)
        assert isinstance(error.__cause__, KeyError)

    def test_an_error_with_an_init_of_its_own_keeps_its_type(self, runner: TaskRunner) -> None:
        error = self.one(runner, probes.raise_two_arguments).error
        assert isinstance(error, probes.TwoArguments)
        assert (str(error), error.first) == ("one and two", "one")

    def test_an_error_that_cannot_be_pickled_keeps_its_type(self, runner: TaskRunner) -> None:
        error = self.one(runner, probes.raise_locked).error
        assert isinstance(error, probes.Locked)
        assert str(error) == "it holds a lock"

    def test_an_error_that_cannot_be_revived_is_told(self, runner: TaskRunner) -> None:
        error = self.one(runner, probes.raise_unrevivable).error
        assert error is not None
        assert "Unrevivable" in _shown(error)
        assert "in raise_unrevivable" in _shown(error)

    def test_system_exit_ends_the_call_and_not_the_worker(self, runner: TaskRunner) -> None:
        outcomes = self.run(runner, make_calls(probes.exit_politely, [()]))
        assert isinstance(outcomes[0].error, SystemExit)
        assert self.one(runner, probes.add, 1, 2).value == 3

    def test_one_failing_call_does_not_fail_its_batch(self, runner: TaskRunner) -> None:
        outcomes = self.run(runner, make_calls(probes.add, [(1, 1), (1, "one"), (2, 2)]))
        assert [type(outcome.error) for outcome in outcomes] == [type(None), TypeError, type(None)]
        assert [outcome.value for outcome in outcomes] == [2, None, 4]

    def test_an_argument_that_cannot_travel_is_named_and_its_batch_runs(
        self, runner: TaskRunner, tmp_path: Path
    ) -> None:
        self.needs_remote(runner)
        file = tmp_path / "entries"
        calls = make_calls(probes.note_and_return, [(file, "a"), (file, probes.Holder(2)), (file, "b")])
        first, refused, last = self.run(runner, calls)
        assert (first.value, last.value) == ("a", "b")
        assert isinstance(refused.error, SerializationError)
        assert "`value.inner.inner.inner`" in str(refused.error)
        assert sorted(entries(file)) == ["a", "b"]

    def test_a_constant_that_cannot_travel_is_named(self, runner: TaskRunner) -> None:
        self.needs_remote(runner)
        error = self.one(runner, probes.add, 1, constants={"right": probes.Holder(1)}).error
        assert isinstance(error, SerializationError)
        assert "`right.inner.inner`" in str(error)

    def test_a_result_that_cannot_travel_is_named(self, runner: TaskRunner) -> None:
        self.needs_remote(runner)
        error = self.one(runner, probes.make_holder).error
        assert isinstance(error, SerializationError)
        assert "`result.inner.inner`" in str(error)

    # --- batches ---

    def test_items_of_a_batch_are_reported_as_they_end(self, runner: TaskRunner, tmp_path: Path) -> None:
        self.needs_room(runner)
        now, release = tmp_path / "now", tmp_path / "release"
        now.touch()
        calls = make_calls(probes.hold, [(tmp_path / "entries", file) for file in [*[now] * 10, release]])
        reports = self.reports()
        runner.submit(calls, reports)
        assert [outcome.value for outcome in reports.of(calls[:-1])] == ["held"] * 10
        assert reports.count(calls[-1]) == 0
        release.touch()
        reports.of(calls)

    def test_nothing_runs_twice_and_nothing_is_reported_twice(self, runner: TaskRunner, tmp_path: Path) -> None:
        file = tmp_path / "entries"
        calls = make_calls(probes.note_and_return, [(file, i) for i in range(200)])
        reports = self.reports()
        for start in range(0, 200, 20):
            runner.submit(calls[start : start + 20], reports)
        reports.of(calls)
        # Whatever would be said a second time has been said before a later call is reported.
        assert self.one(runner, probes.add, 1).value == 1
        assert sorted(map(int, entries(file))) == list(range(200))
        assert [reports.count(call) for call in calls] == [1] * 200

    def test_what_calls_share_is_pickled_once(self, runner: TaskRunner, tmp_path: Path) -> None:
        self.needs_remote(runner)
        file = tmp_path / "pickles"
        counted = probes.Counted(file, bytes(5_000_000))
        calls = make_calls(probes.length, [(i,) for i in range(40)], constants={"counted": counted})
        calls = [replace(call, args=(), kwargs={"number": call.args[0]}) for call in calls]
        reports = self.reports()
        for start in range(0, 40, 5):
            runner.submit(calls[start : start + 5], reports)
        assert [outcome.value for outcome in reports.of(calls)] == [5_000_000 + i for i in range(40)]
        assert entries(file).count("pickled") == 1
        assert entries(file).count("unpickled") <= runner.capacity

    # --- context, logs ---

    def test_context_variables_cross_and_changes_stay(self, runner: TaskRunner) -> None:
        token = probes.variable.set("from the driver")
        try:
            calls = make_calls(probes.set_variable, [("changed",), ("again",)])
            calls = [replace(call, context=copy_context()) for call in calls]
        finally:
            probes.variable.reset(token)
        assert [outcome.value for outcome in self.run(runner, calls)] == ["from the driver"] * 2
        assert probes.variable.get() == "unset"

    def test_logs_and_prints_come_home(self, runner: TaskRunner) -> None:
        self.needs_remote(runner)
        logger = logging.getLogger("penstock")
        level = logger.level
        logger.setLevel(logging.INFO)
        try:
            outcome = self.one(runner, probes.log_and_print, "it", log_prints=True)
        finally:
            logger.setLevel(level)
        logged, printed = outcome.logs
        assert (logged.level, logged.message) == (logging.WARNING, "logged it")
        assert printed.level == logging.INFO
        assert printed.message.endswith("printed it")
        assert logged.extra["run_name"] == "probe"

    def test_an_outcome_says_when_and_where(self, runner: TaskRunner) -> None:
        self.needs_remote(runner)
        outcome = self.one(runner, probes.add, 1)
        assert 0 < outcome.started <= outcome.ended
        assert outcome.worker


def _shown(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error))
