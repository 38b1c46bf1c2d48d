# ruff: noqa: D102 (the name of a test says what it checks)
"""The part of the suite for runners about ends: timeouts, cancellation, dead workers, and the runner's own."""

from __future__ import annotations

import gc
import os
import threading  # noqa: TID251 (counting threads)
from pathlib import Path

import pytest

from penstock.errors import Cancelled, RunnerClosed, TimedOut
from penstock.testing import wait_until
from penstock_runners import probes
from penstock_runners.base import TaskRunner
from penstock_runners.probes import entries, make_calls
from penstock_runners.testing_base import RunnerSuite

__all__ = ("EndingTests",)


class EndingTests(RunnerSuite):
    """Whatever ends, on time or before it, is reported once, and leaves nothing behind."""

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
