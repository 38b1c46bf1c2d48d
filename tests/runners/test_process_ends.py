"""Worker processes that are stopped, run out of time or are cancelled: who is killed for it, and who is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import worker_functions as functions
from runner_calls import alive, one, run

from penstock.errors import Cancelled, CrashedRun, TimedOut
from penstock.testing import wait_until
from penstock_runners import probes
from penstock_runners.probes import Reports, entries, make_calls
from penstock_runners.processes import ProcessPoolTaskRunner


@pytest.fixture
def runner() -> Iterator[ProcessPoolTaskRunner]:
    with ProcessPoolTaskRunner(max_workers=2) as runner:
        yield runner


class TestFrozenWorkers:
    def test_a_stopped_worker_is_given_up_after_the_lease(self, tmp_path: Path) -> None:
        file = tmp_path / "entries"
        with ProcessPoolTaskRunner(1, lease=0.5) as runner:
            crash = one(runner, functions.stop_self, file).crash
            assert isinstance(crash, CrashedRun)
            assert crash.reason == "frozen"
            assert "lease of 0.5 s" in str(crash)
            (pid,) = map(int, entries(file))  # it never woke up
            assert not alive(pid)
            assert one(runner, functions.pid).value != pid

    def test_a_stopped_worker_that_goes_on_in_time_is_no_crash(self, tmp_path: Path) -> None:
        file = tmp_path / "entries"
        reports = Reports()
        with ProcessPoolTaskRunner(1, lease=30.0) as runner:
            calls = make_calls(functions.stop_self, [(file,)])
            runner.submit(calls, reports)
            functions.wake(file)
            assert reports.of(calls)[0].value == "woken"

    def test_a_worker_that_holds_the_interpreter_is_not_frozen(self) -> None:
        with ProcessPoolTaskRunner(1, lease=0.2) as runner:
            assert one(runner, functions.hold_the_interpreter, 1.0).value == "done"

    def test_a_stopped_worker_holds_up_nobody(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        run(runner, [*make_calls(functions.pid, [(1,)])])
        (stopped,) = runner.worker_pids()
        os.kill(stopped, signal.SIGSTOP)
        reports = Reports()
        large = make_calls(probes.add, [(bytes(50_000_000), b"!")])
        runner.submit(large, reports)
        small = make_calls(probes.add, [(i,) for i in range(10)])
        for call in small:
            runner.submit([call], reports)
        assert [outcome.value for outcome in reports.of(small)] == list(range(10))
        assert reports.count(large[0]) == 0
        os.kill(stopped, signal.SIGCONT)
        assert len(reports.of(large)[0].value) == 50_000_001


class TestTimeouts:
    def test_pass_in_an_idle_worker_too(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        assert one(runner, functions.pid).error is None
        assert isinstance(one(runner, functions.sleep_noting, tmp_path / "entered", timeout=0.2).error, TimedOut)

    def test_kill_only_the_guilty_worker(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        release = tmp_path / "release"
        reports = Reports()
        innocent = make_calls(probes.hold, [(tmp_path / "innocent", release)])
        runner.submit(innocent, reports)
        wait_until(lambda: bool(entries(tmp_path / "innocent")), "the innocent call to run")
        guilty = make_calls(functions.sleep_noting, [(tmp_path / "guilty",)], timeout=0.5)
        runner.submit(guilty, reports)
        outcome = reports.of(guilty)[0]
        assert isinstance(outcome.error, TimedOut)
        assert "0.5 s" in str(outcome.error)
        wait_until(lambda: not alive(int(entries(tmp_path / "guilty")[0])), "the guilty worker to be gone")
        release.touch()
        assert reports.of(innocent)[0].value == "held"

    def test_many_leave_the_pool_as_it_was(self, runner: ProcessPoolTaskRunner) -> None:
        outcomes = run(runner, make_calls(functions.hold_the_interpreter, [(600,)] * 5, timeout=0.05))
        assert all(isinstance(outcome.error, TimedOut) for outcome in outcomes)
        assert one(runner, functions.pid).value in runner.worker_pids()
        assert len(runner.worker_pids()) <= 2

    def test_let_an_async_function_clean_up(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        file = tmp_path / "entries"
        pid = one(runner, functions.pid).value
        outcome = one(runner, functions.sleep_cleaning_up, file, is_async=True, timeout=0.3)
        assert isinstance(outcome.error, TimedOut)
        wait_until(lambda: entries(file) == ["cleaned"], "the finally block")
        assert one(runner, functions.pid).value == pid

    def test_replace_a_worker_whose_loop_is_blocked(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        pid = one(runner, functions.pid).value
        calls = make_calls(functions.block_the_loop, [(tmp_path / "never",)] * 2, is_async=True, timeout=0.3)
        outcomes = run(runner, calls)
        assert all(isinstance(outcome.error, TimedOut) for outcome in outcomes)
        assert one(runner, functions.pid).value != pid

    def test_at_the_moment_of_the_end_give_one_outcome(self, runner: ProcessPoolTaskRunner) -> None:
        calls = make_calls(functions.hold_the_interpreter, [(0.05,)] * 30, timeout=0.051)
        reports = Reports()
        runner.submit(calls, reports)
        for outcome in reports.of(calls):
            assert outcome.value == "done" or isinstance(outcome.error, TimedOut)
        assert len(reports.all) == len(calls)


class TestCancellation:
    def test_kills_the_worker_that_is_in_the_call(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        reports = Reports()
        calls = make_calls(functions.sleep_noting, [(file,)]) + make_calls(probes.add, [(1,)])
        calls[1].work = calls[0].work
        calls[1].args = (tmp_path / "second",)
        runner.submit(calls, reports)
        wait_until(lambda: bool(entries(file)), "the call to run")
        assert runner.cancel(calls[0])
        assert isinstance(reports.of(calls[:1])[0].error, Cancelled)
        wait_until(lambda: not alive(int(entries(file)[0])), "its worker to be gone")
        wait_until(lambda: bool(entries(tmp_path / "second")), "the second call to run elsewhere")
        assert runner.cancel(calls[1])
        reports.of(calls)

    def test_of_everything_in_a_batch_is_a_fence(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        file = tmp_path / "entries"
        for _ in range(5):
            calls = make_calls(probes.note_and_return, [(file, i) for i in range(400)])
            reports = Reports()
            runner.submit(calls, reports)
            wait_until(lambda reports=reports: len(reports.all) > 20, "some to run")  # type: ignore[misc]
            certain = [call for call in reversed(calls) if runner.cancel(call)]
            outcomes = dict(zip(calls, reports.of(calls)))
            assert len(reports.all) == len(calls)
            cancelled = {str(call.args[1]) for call in certain if isinstance(outcomes[call].error, Cancelled)}
            # At most one was under way, and was killed; all others were never entered.
            assert len(cancelled & set(entries(file))) <= 1
            file.unlink()

    def test_of_what_is_unknown_is_no_certainty(self, runner: ProcessPoolTaskRunner) -> None:
        assert not runner.cancel(make_calls(probes.add, [(1,)])[0])

    def test_closing_kills_what_does_not_end_within_the_grace(self, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        reports = Reports()
        calls = make_calls(functions.sleep_noting, [(file,)])
        runner = ProcessPoolTaskRunner(1)
        with runner:
            runner.submit(calls, reports)
            wait_until(lambda: bool(entries(file)), "the call to run")
            runner.close(grace=0.1)
        assert isinstance(reports.of(calls)[0].error, Cancelled)
        assert not alive(int(entries(file)[0]))
