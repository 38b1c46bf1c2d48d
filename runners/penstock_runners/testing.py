# ruff: noqa: D102 (the name of a test says what it checks)
"""The conformance suite for task runners, which any runner can inherit.

::

    class TestMyRunner(RunnerTests):
        def make_runner(self) -> TaskRunner:
            return MyRunner(workers=2)

It is written against the contract in `penstock_runners.base` alone, and looks at files, process ids and counters
rather than at what the runner says of itself.
"""

from __future__ import annotations

import gc
import logging
import os
import threading  # noqa: TID251 (counting threads)
import traceback
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import Cancelled, RunnerClosed, SerializationError, TimedOut
from penstock.ports import Call, Outcome
from penstock.testing import wait_until
from penstock_runners import probes
from penstock_runners.base import TaskRunner
from penstock_runners.probes import Reports, entries, make_calls

__all__ = ("Reports", "RunnerTests", "make_calls")


class RunnerTests:
    """Inherit this, and say how to make a runner.

    Attributes:
        patience: Seconds after which something that has not happened counts as never happening.
    """

    patience = 60.0

    def make_runner(self) -> TaskRunner:
        """Make an unopened runner, with room for two calls at the same time if it can have that."""
        raise NotImplementedError(f"{type(self).__name__}.make_runner")

    @pytest.fixture
    def runner(self) -> Iterator[TaskRunner]:
        """An open runner; override it to share one that is slow to open."""
        with self.make_runner() as runner:
            yield runner

    def reports(self) -> Reports:
        """A collector with this suite's patience."""
        return Reports(self.patience)

    def run(self, runner: TaskRunner, calls: list[Call]) -> list[Outcome]:
        """Submit the calls as one batch and wait for their outcomes."""
        reports = self.reports()
        runner.submit(calls, reports)
        return reports.of(calls)

    def one(self, runner: TaskRunner, function: Any, *args: Any, **options: Any) -> Outcome:
        """Run a single call."""
        return self.run(runner, make_calls(function, [args], **options))[0]

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
        release = tmp_path / "release"
        (tmp_path / "now").touch()
        calls = make_calls(probes.hold, [(tmp_path / "entries", tmp_path / "now"), (tmp_path / "entries", release)])
        reports = self.reports()
        runner.submit(calls, reports)
        assert reports.of(calls[:1])[0].value == "held"
        assert reports.count(calls[1]) == 0
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

    # --- timeouts and cancellation ---

    def test_a_timeout_is_reported_on_time(self, runner: TaskRunner, tmp_path: Path) -> None:
        release = tmp_path / "release"
        (call,) = make_calls(probes.hold, [(tmp_path / "entries", release)], timeout=1.0)
        reports = self.reports()
        runner.submit([call], reports)
        outcome = reports.of([call])[0]
        assert not release.exists()
        release.touch()
        assert isinstance(outcome.error, TimedOut)
        assert self.one(runner, probes.add, 1, 2).value == 3
        assert reports.count(call) == 1

    def test_a_timeout_spares_the_rest_of_its_batch(self, runner: TaskRunner, tmp_path: Path) -> None:
        file, now, never = tmp_path / "entries", tmp_path / "now", tmp_path / "never"
        now.touch()
        arguments = [(file, now, 0), (file, never, 1), (file, now, 2), (file, now, 3)]
        outcomes = self.run(runner, make_calls(probes.hold, arguments, timeout=1.0))
        never.touch()
        assert isinstance(outcomes[1].error, TimedOut)
        assert [outcomes[i].value for i in (0, 2, 3)] == [0, 2, 3]
        assert sorted(entries(file)) == ["0", "1", "2", "3"]

    def test_a_timeout_counts_from_the_entry(self, runner: TaskRunner) -> None:
        calls = make_calls(probes.nap, [(0.4,)] * (3 * runner.capacity), timeout=1.0)
        reports = self.reports()
        for call in calls:
            runner.submit([call], reports)
        assert [outcome.error for outcome in reports.of(calls)] == [None] * len(calls)

    def test_a_cancelled_call_in_the_queue_is_never_entered(self, runner: TaskRunner, tmp_path: Path) -> None:
        self.needs_room(runner)
        file, release = tmp_path / "entries", tmp_path / "release"
        blockers = make_calls(probes.hold, [(file, release)] * runner.capacity)
        (queued,) = make_calls(probes.note_and_return, [(file, "queued")])
        reports = self.reports()
        for call in blockers:
            runner.submit([call], reports)
        wait_until(lambda: len(entries(file)) == len(blockers), "the pool to be full", self.patience)
        runner.submit([queued], reports)
        assert runner.cancel(queued)
        assert isinstance(reports.of([queued])[0].error, Cancelled)
        release.touch()
        reports.of(blockers)
        assert self.one(runner, probes.add, 1).value == 1
        assert "queued" not in entries(file)
        assert reports.count(queued) == 1

    def test_cancelling_inside_a_batch_spares_the_others(self, runner: TaskRunner, tmp_path: Path) -> None:
        self.needs_room(runner)
        file, release = tmp_path / "entries", tmp_path / "release"
        calls = make_calls(probes.hold, [(file, release, i) for i in range(4)])
        reports = self.reports()
        runner.submit(calls, reports)
        wait_until(lambda: bool(entries(file)), "the first to be entered", self.patience)
        was_certain = runner.cancel(calls[3])
        release.touch()
        outcomes = reports.of(calls)
        assert [outcome.value for outcome in outcomes[:3]] == [0, 1, 2]
        if was_certain:
            assert isinstance(outcomes[3].error, Cancelled)
            assert "3" not in entries(file)

    def test_a_running_call_is_stopped_or_its_outcome_stands(self, runner: TaskRunner, tmp_path: Path) -> None:
        self.needs_room(runner)
        file, release = tmp_path / "entries", tmp_path / "release"
        (call,) = make_calls(probes.hold, [(file, release)])
        reports = self.reports()
        runner.submit([call], reports)
        wait_until(lambda: bool(entries(file)), "the call to be entered", self.patience)
        if runner.cancel(call):
            assert isinstance(reports.of([call])[0].error, Cancelled)
        release.touch()
        reports.of([call])
        assert self.one(runner, probes.add, 1).value == 1
        assert reports.count(call) == 1

    # --- workers that die ---

    def test_a_killed_worker_fails_only_its_own_call(self, runner: TaskRunner, tmp_path: Path) -> None:
        self.needs_remote(runner)
        file = tmp_path / "entries"
        calls = make_calls(probes.kill_worker, [(file, i, 2) for i in range(6)])
        reports = self.reports()
        for call in calls:
            runner.submit([call], reports)
        outcomes = reports.of(calls)
        assert getattr(outcomes[2].crash, "reason", None) == "worker_lost"
        assert [outcomes[i].value for i in (0, 1, 3, 4, 5)] == [0, 1, 3, 4, 5]
        assert sorted(entries(file)) == [str(i) for i in range(6)]

    def test_a_batch_survives_its_worker(self, runner: TaskRunner, tmp_path: Path) -> None:
        self.needs_remote(runner)
        file = tmp_path / "entries"
        outcomes = self.run(runner, make_calls(probes.kill_worker, [(file, i, 2) for i in range(6)]))
        assert [outcome.value for outcome in outcomes[:2]] == [0, 1]
        assert outcomes[2].crash is not None
        for number, outcome in enumerate(outcomes[3:], 3):
            # Either somebody else did it, or it can be sent again without repeating anything.
            assert outcome.value == number or not getattr(outcome.crash, "entered", True)
        assert len(entries(file)) == len(set(entries(file)))
        assert self.one(runner, probes.add, 1).value == 1

    def test_a_worker_that_exits_is_a_crash(self, runner: TaskRunner) -> None:
        self.needs_remote(runner)
        outcome = self.one(runner, probes.exit_worker, 7)
        assert outcome.crash is not None
        assert outcome.error is None
        assert self.one(runner, probes.add, 1).value == 1

    # --- opening and closing ---

    def test_a_runner_that_is_not_open_takes_nothing(self) -> None:
        runner = self.make_runner()
        calls = make_calls(probes.add, [(1,)])
        reports = self.reports()
        with pytest.raises(RunnerClosed):
            runner.submit(calls, reports)
        with runner:
            runner.submit(calls, reports)
            reports.of(calls)
        with pytest.raises(RunnerClosed):
            runner.submit(make_calls(probes.add, [(1,)]), reports)
        assert len(reports.all) == 1

    def test_a_duplicate_is_another_runner_with_the_same_settings(self) -> None:
        runner = self.make_runner()
        with runner:
            other = runner.duplicate()
            assert type(other) is type(runner)
            assert not other.is_open
            assert other.capacity == runner.capacity
            with other:
                assert self.one(other, probes.add, 1).value == 1
            assert self.one(runner, probes.add, 1).value == 1

    def test_closing_reports_everything_and_starts_nothing(self, tmp_path: Path) -> None:
        runner = self.make_runner()
        self.needs_room(runner)
        file, release = tmp_path / "entries", tmp_path / "release"
        reports = self.reports()
        with runner:
            calls = make_calls(probes.hold, [(file, release, i) for i in range(3 * runner.capacity)])
            for call in calls:
                runner.submit([call], reports)
            wait_until(lambda: len(entries(file)) == runner.capacity, "the pool to be full", self.patience)
            closer = threading.Thread(target=runner.close, args=(self.patience,))
            closer.start()
            try:
                reports.of(calls[-1:])
            finally:
                release.touch()
                closer.join()
        outcomes = reports.of(calls)
        assert len(entries(file)) == runner.capacity
        assert [outcome.value is not None for outcome in outcomes].count(True) == runner.capacity
        assert all(isinstance(outcome.error, Cancelled) for outcome in outcomes if outcome.value is None)
        assert len(reports.all) == len(calls)

    def test_nothing_is_left_behind(self) -> None:
        self.use_once()  # what stays for the life of the process is there after the first time
        before = _possessions()
        self.use_once()
        patience = min(10.0, self.patience)
        wait_until(lambda: _possessions() <= before, f"the runner to let go of {_possessions() - before}", patience)

    def use_once(self) -> None:
        """Open a runner, use it and close it."""
        with self.make_runner() as runner:
            self.run(runner, make_calls(probes.add, [(i, 1) for i in range(4)]))

    # --- who can be asked what ---

    def needs_remote(self, runner: TaskRunner) -> None:
        """Skip the test if calls do not leave this process."""
        if not runner.remote:
            pytest.skip("calls do not leave this process")

    def needs_room(self, runner: TaskRunner) -> None:
        """Skip the test if the runner does everything while it is submitted."""
        if runner.ordered:
            pytest.skip("calls are executed while they are submitted")


def _shown(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error))


def _possessions() -> set[tuple[str, object]]:
    """The threads, the child processes and the number of open files of this process."""
    gc.collect()
    found: set[tuple[str, object]] = {("thread", thread) for thread in threading.enumerate()}
    found.update(("process", pid) for pid in _children())
    found.update(("file", index) for index in range(_open_files()))
    return found


def _children() -> list[int]:
    folder = Path(f"/proc/{os.getpid()}/task")
    if not folder.exists():
        return []
    return [int(pid) for task in folder.iterdir() for pid in _read(task / "children").split()]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended since the folder was listed
        return ""


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0
