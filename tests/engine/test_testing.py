"""The testing kit itself: the clock, the harness, the fixture, the faults."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from penstock import Engine, flow, task
from penstock.errors import CrashedRun, SerializationError
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock.testing import FaultyRunner, VirtualClock, penstock_test_harness

WATCHDOG = 5.0


@task
def double(value: int) -> int:
    return 2 * value


class TestClockMovedByHand:
    """Time stands still until a test moves it."""

    def test_runs_what_becomes_due_in_order(self) -> None:
        clock, seen = VirtualClock(start=1000.0), []
        for delay in (30, 10, 20, 10):
            clock.call_later(delay, lambda delay=delay: seen.append((delay, clock.monotonic())))  # type: ignore[misc]
        clock.advance(9.5)
        assert seen == []
        clock.advance(10.5)
        assert seen == [(10, 10), (10, 10), (20, 20)]
        assert clock.time() == 1020.0
        clock.advance(100)
        assert seen[-1] == (30, 30)
        assert clock.monotonic() == 120

    def test_forgets_what_is_cancelled(self) -> None:
        clock, seen = VirtualClock(), []
        timer = clock.call_later(10, lambda: seen.append(1))
        timer.cancel()
        timer.cancel()
        clock.advance(20)
        assert seen == []
        assert clock.timers() == []

    def test_runs_timers_that_timers_set(self) -> None:
        clock, seen = VirtualClock(), []

        def tick() -> None:
            seen.append(clock.monotonic())
            clock.call_later(10, tick)

        clock.call_later(10, tick)
        clock.advance(35)
        assert seen == [10, 20, 30]

    def test_refuses_to_go_back(self) -> None:
        with pytest.raises(ValueError, match="does not go back"):
            VirtualClock().advance(-1)

    def test_tells_when_a_timer_is_set(self) -> None:
        clock = VirtualClock()
        with pytest.raises(TimeoutError, match="expected 1"):
            clock.wait_for_timers(timeout=0.01)
        threading.Thread(target=lambda: clock.call_later(5, lambda: None)).start()
        assert clock.wait_for_timers(timeout=WATCHDOG) == [5]


class TestClockThatJumps:
    """Time jumps when every run rests, and never before."""

    def test_a_day_of_retries_takes_no_time(self) -> None:
        clock = VirtualClock(autojump=True)
        attempts: list[float] = []

        @task(retries=24, retry_delay_seconds=3600)
        def hourly() -> float:
            attempts.append(clock.monotonic())
            if len(attempts) <= 24:
                raise ValueError("not yet")
            return clock.monotonic()

        begun = time.monotonic()
        with penstock_test_harness(clock=clock):
            assert flow(lambda: hourly.submit().result())() == 86_400
        assert time.monotonic() - begun < 86_400 / 1000
        assert attempts == [3600 * hour for hour in range(25)]

    def test_does_not_overtake_a_run_that_works(self) -> None:
        """One run waits an hour for its retry while another works, in real time, and then sets a shorter timer."""
        clock = VirtualClock(autojump=True)
        seen: list[tuple[str, float]] = []
        waiting = threading.Event()

        def attempt(name: str, delay: float) -> Any:
            @task(retries=1, retry_delay_seconds=delay)
            def work() -> None:
                seen.append((name, clock.monotonic()))
                if name == "busy" and len(seen) < 3:
                    waiting.wait(WATCHDOG)
                    time.sleep(0.05)  # the work, in which the clock looks a hundred times whether it may jump
                if sum(entry[0] == name for entry in seen) == 1:
                    waiting.set()
                    raise ValueError(name)

            return work

        with penstock_test_harness(ThreadPoolTaskRunner(2), clock=clock):

            @flow
            def both() -> None:
                futures = [attempt("patient", 3600).submit(), attempt("busy", 60).submit()]
                for future in futures:
                    future.result()

            both()
        assert sorted(seen) == [("busy", 0), ("busy", 60), ("patient", 0), ("patient", 3600)]

    def test_does_not_overtake_a_flow_that_works(self) -> None:
        clock = VirtualClock(autojump=True)
        failed = threading.Event()

        @task(retries=1, retry_delay_seconds=100)
        def once_wrong() -> None:
            if not failed.is_set():
                failed.set()
                raise ValueError

        @flow
        def run() -> float:
            future = once_wrong.submit()
            assert failed.wait(WATCHDOG)
            time.sleep(0.02)  # the work of the flow, in which the clock looks forty times whether it may jump
            before = clock.monotonic()
            future.result()
            return before

        with penstock_test_harness(ThreadPoolTaskRunner(2), clock=clock):
            assert run() == 0
        assert clock.monotonic() == 100

    def test_leaves_no_thread_behind(self) -> None:
        clock = VirtualClock(autojump=True)
        ran = threading.Event()
        clock.call_later(1e9, ran.set)
        assert ran.wait(WATCHDOG)
        for thread in threading.enumerate():
            if thread.name == "penstock-virtual-clock":
                thread.join(WATCHDOG)
                assert not thread.is_alive()

    def test_is_the_same_every_time(self) -> None:
        def history() -> list[float]:
            clock = VirtualClock(autojump=True)
            ends: list[float] = []

            @task(retries=2)
            def work(number: int) -> None:
                counts[number] += 1
                if counts[number] <= 2:
                    raise ValueError(number)
                ends.append(clock.monotonic())

            counts = [0] * 20
            with penstock_test_harness(ThreadPoolTaskRunner(4), clock=clock):

                @flow
                def run() -> None:
                    futures = [
                        work.with_options(retry_delay_seconds=[(7 * n) % 11 + 1, (5 * n) % 13 + 1]).submit(n)
                        for n in range(20)
                    ]
                    for future in futures:
                        future.result()

                run()
            return ends

        first = history()
        assert len(set(first)) > 5
        assert all(history() == first for _ in range(5))


class TestHarness:
    """An engine of the test's own."""

    def test_is_the_engine_of_the_flows_inside(self) -> None:
        from penstock.context import current_run

        with penstock_test_harness() as engine:
            run = flow(lambda: current_run.get())
            assert run().engine is engine  # type: ignore[union-attr]
        assert run().engine is not engine  # type: ignore[union-attr]

    def test_has_a_home_that_is_gone_afterwards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PENSTOCK_HOME", "/before")
        monkeypatch.delenv("PENSTOCK_HISTORY", raising=False)
        with penstock_test_harness():
            home = Path(os.environ["PENSTOCK_HOME"])
            assert home.is_dir()
            assert os.environ["PENSTOCK_HISTORY"] == "none"
        assert not home.exists()
        assert os.environ["PENSTOCK_HOME"] == "/before"
        assert "PENSTOCK_HISTORY" not in os.environ

    @pytest.mark.parametrize("runner", [SequentialTaskRunner, ThreadPoolTaskRunner])
    def test_takes_a_runner(self, runner: Any) -> None:
        with penstock_test_harness(runner) as engine:
            assert isinstance(engine.runner, runner)
            assert flow(lambda: double.submit(2).result())() == 4

    def test_starts_within_the_time_of_a_bare_interpreter(self) -> None:
        """Under 50 ms on any machine that starts ``python -c pass`` in 15: a ratio, since machines differ."""

        def seconds(call: Any) -> float:
            begun = time.perf_counter()
            call()
            return time.perf_counter() - begun

        def harness() -> None:
            with penstock_test_harness():
                assert flow(lambda: double.submit(2).result())() == 4

        def interpreter() -> None:
            subprocess.run([sys.executable, "-c", "pass"], check=True)

        bare = median(seconds(interpreter) for _ in range(5))
        assert median(seconds(harness) for _ in range(11)) < 3 * bare


def test_the_fixture_is_an_engine(penstock_engine: Engine) -> None:
    assert flow(lambda: double.submit(2).result())() == 4
    assert Path(os.environ["PENSTOCK_HOME"]).name.startswith("penstock-test-")


def test_a_users_suite_needs_one_line(tmp_path: Path) -> None:
    """A project's own conftest and test, run by a pytest of its own; its home directory stays empty."""
    (tmp_path / "conftest.py").write_text("from penstock.testing import penstock_engine\n")
    (tmp_path / "test_mine.py").write_text(
        "from penstock import flow, get_run_logger, task\n"
        "@task\n"
        "def work(x):\n"
        "    return x + 1\n"
        "def test_flow(penstock_engine):\n"
        "    assert flow(lambda: work.submit(1).result())() == 2\n"
        "def test_bare():\n"
        "    assert work.fn(1) == 2\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qWerror", "-p", "no:asyncio", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k != "PENSTOCK_HOME"}, "HOME": str(home)},
        cwd=tmp_path,
        timeout=60,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert list(home.iterdir()) == []


def test_the_kit_imports_no_pytest_by_itself() -> None:
    code = "import sys, penstock.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_conformance_suites_are_in_the_kit() -> None:
    from penstock import testing

    assert testing.RunnerTests.__name__ == "RunnerTests"
    assert testing.ResultStoreTests.__name__ == "ResultStoreTests"
    assert testing.HistoryTests.__name__ == "HistoryTests"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = testing.Nothing


@pytest.fixture(params=[SequentialTaskRunner, lambda: ThreadPoolTaskRunner(2)], ids=["sequential", "threads"])
def faulty(request: pytest.FixtureRequest) -> FaultyRunner:
    return FaultyRunner(request.param())


def history_of(task_: Any, faulty: FaultyRunner, count: int = 4) -> list[str]:
    @flow(task_runner=faulty)
    def run() -> list[str]:
        names = []
        for number in range(count):
            future = task_.submit(number)
            future.wait()
            names.append(future.state.name)
        return names

    return run()


class TestFaults:
    """Each fault does what its name says, to the calls it was told to."""

    def test_kill_worker(self, faulty: FaultyRunner) -> None:
        faulty.kill_worker(after=1, times=2)
        assert history_of(double, faulty) == ["Completed", "Crashed", "Crashed", "Completed"]

    def test_kill_worker_after_the_function_ran(self, faulty: FaultyRunner) -> None:
        ran: list[int] = []

        @task
        def note() -> None:
            ran.append(1)

        @flow(task_runner=faulty.kill_worker())
        def run() -> Any:
            error = note.submit().exception()
            assert isinstance(error, CrashedRun)
            return error.reason, error.entered

        assert run() == ("worker_lost", True)
        assert ran == [1]

    def test_kill_worker_before_the_function_ran(self, faulty: FaultyRunner) -> None:
        """Nothing can have happened twice, so the engine sends the call again by itself."""
        ran: list[int] = []

        @task
        def note() -> str:
            ran.append(1)
            return "noted"

        @flow(task_runner=faulty.kill_worker(entered=False))
        def run() -> Any:
            future = note.submit()
            return future.result(), future.run.attempt

        assert run() == ("noted", 2)
        assert ran == [1]

    def test_a_call_that_no_worker_survives_to_enter_is_given_up(self, faulty: FaultyRunner) -> None:
        ran: list[int] = []

        @task
        def note() -> None:
            ran.append(1)

        @flow(task_runner=faulty.kill_worker(times=1000, entered=False))
        def run() -> Any:
            future = note.submit()
            future.wait()
            return future.state.name, future.run.attempt

        assert run() == ("Crashed", 11)
        assert ran == []

    def test_fail_pickle(self, faulty: FaultyRunner) -> None:
        @flow(task_runner=faulty.fail_pickle(after=1))
        def run() -> Any:
            fine, refused = double.submit(1), double.submit(2)
            return fine.result(), refused.exception()

        value, error = run()
        assert value == 2
        assert isinstance(error, SerializationError)

    def test_slow(self, faulty: FaultyRunner) -> None:
        clock = VirtualClock()
        with penstock_test_harness(faulty.slow(3600), clock=clock):

            @flow
            def run() -> Any:
                future = double.submit(1)
                assert clock.wait_for_timers() == [3600]
                assert not future.done
                clock.advance(3600)
                return future.result(timeout=WATCHDOG)

            assert run() == 2

    def test_duplicate_reports_are_not_noticed(self, faulty: FaultyRunner) -> None:
        entered: list[int] = []

        @task(retries=1)
        def twice(number: int) -> int:
            entered.append(number)
            if len(entered) == 1:
                raise ValueError
            return number

        @flow(task_runner=faulty.duplicate_reports())
        def run() -> Any:
            future = twice.submit(7)
            value = future.result()
            return value, [state.name for state in future.run.history]

        assert run() == (7, ["Pending", "Running", "Retrying", "Completed"])
        assert entered == [7, 7]

    def test_faults_add_up_and_outlive_a_copy(self, faulty: FaultyRunner) -> None:
        faulty.kill_worker(after=1).fail_pickle(after=2).duplicate_reports()
        assert history_of(double, faulty) == ["Completed", "Crashed", "Failed", "Completed"]
        assert history_of(double, faulty) == ["Completed"] * 4, "the plan counts calls over all copies"
