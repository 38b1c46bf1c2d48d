"""Worker processes: what is true of them beyond what is true of every runner."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import worker_functions as functions
from runner_calls import alive, one, run

from penstock import flow, task
from penstock.errors import ConfigurationError, CrashedRun, SerializationError, TimedOut
from penstock.ports import Call, LogLine, Outcome
from penstock.testing import wait_until
from penstock_runners import exits, pool, probes
from penstock_runners.probes import Reports, entries, make_calls
from penstock_runners.processes import ProcessPoolTaskRunner

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runner() -> Iterator[ProcessPoolTaskRunner]:
    with ProcessPoolTaskRunner(max_workers=2) as runner:
        yield runner


class TestWorkers:
    def test_live_on_between_calls(self, runner: ProcessPoolTaskRunner) -> None:
        pids = {one(runner, functions.pid).value for _ in range(10)}
        assert len(pids) == 1
        assert pids == set(runner.worker_pids())

    def test_start_as_work_comes_and_never_exceed_the_bound(self, runner: ProcessPoolTaskRunner) -> None:
        assert runner.worker_pids() == []
        reports = Reports()
        calls = make_calls(functions.pid, [(i,) for i in range(50)])
        for call in calls:
            runner.submit([call], reports)
        assert 1 <= len({outcome.value for outcome in reports.of(calls)}) <= 2
        assert len(runner.worker_pids()) <= 2

    def test_run_the_initializer_once_each(self) -> None:
        with ProcessPoolTaskRunner(1, initializer=functions.initialize, initargs=("model",)) as runner:
            assert one(runner, functions.what_was_initialized).value == ["model"]
            assert one(runner, functions.what_was_initialized).value == ["model"]

    def test_that_cannot_be_initialized_are_a_crash_that_says_why(self) -> None:
        with ProcessPoolTaskRunner(2, initializer=functions.fail_to_initialize) as runner:
            outcomes = run(runner, make_calls(functions.pid, [(1,), (2,)]))
        for outcome in outcomes:
            assert isinstance(outcome.crash, CrashedRun)
            crash = outcome.crash
            assert (crash.reason, crash.entered, crash.hopeless) == ("start_failed", False, True)
            assert "no such model" in str(outcome.crash)
            assert isinstance(outcome.crash.__cause__, LookupError)

    def test_that_cannot_be_initialized_are_not_tried_again_for_ever(self) -> None:
        @flow(task_runner=ProcessPoolTaskRunner(1, initializer=functions.fail_to_initialize))
        def pids() -> None:
            task(functions.pid).map([1, 2]).result()

        with pytest.raises(CrashedRun, match="no such model"):
            pids()

    def test_refuse_an_initializer_that_cannot_travel(self) -> None:
        runner = ProcessPoolTaskRunner(1, initializer=functions.initialize, initargs=(threading.Lock(),))
        with pytest.raises(SerializationError, match=r"initargs\)\[1\]\[0\]`: cannot pickle '_thread.lock'"):
            runner.__enter__()

    @pytest.mark.parametrize("options", [{"max_workers": 0}, {"lease": 0.0}])
    def test_refuse_what_cannot_work(self, options: dict[str, float]) -> None:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            ProcessPoolTaskRunner(**options)  # type: ignore[arg-type]

    def test_need_no_guard_around_the_main_module(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent("""
            from contextvars import ContextVar, copy_context
            from penstock_runners.probes import Reports, make_calls
            from penstock_runners.processes import ProcessPoolTaskRunner

            print("main module runs")
            request = ContextVar("request", default="none")
            FACTOR = 3

            class Point:
                def __init__(self, x): self.x = x

            def scale(point):
                return Point(point.x * FACTOR), request.get()

            request.set("r-1")
            with ProcessPoolTaskRunner(2) as runner:
                reports = Reports()
                calls = make_calls(scale, [(Point(1),), (Point(2),)])
                runner.submit(calls, reports)
                for point, seen in [outcome.value for outcome in reports.of(calls)]:
                    print(type(point) is Point, point.x, seen)
            """)
        )
        done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        assert done.stdout.splitlines() == ["main module runs", "True 3 r-1", "True 6 r-1"]


class TestDeaths:
    def test_a_fault_in_native_code_is_named(self, runner: ProcessPoolTaskRunner) -> None:
        crash = one(runner, functions.segfault).crash
        assert isinstance(crash, CrashedRun)
        assert crash.reason == "signal"
        assert "SIGSEGV" in str(crash)

    def test_an_exit_is_named_with_its_code(self, runner: ProcessPoolTaskRunner) -> None:
        crash = one(runner, probes.exit_worker, 7).crash
        assert isinstance(crash, CrashedRun)
        assert crash.reason == "exit"
        assert "code 7" in str(crash)

    def test_want_of_memory_is_named_where_the_kernel_says_so(self) -> None:
        crash = exits.crash("load", "pid 1 on host", -signal.SIGKILL, oom=True)
        assert crash.reason == "out_of_memory"
        assert exits.crash("load", "pid 1 on host", -signal.SIGKILL, oom=False).reason == "worker_lost"

    def test_a_worker_that_loses_its_connection_is_replaced(self, runner: ProcessPoolTaskRunner) -> None:
        assert one(runner, functions.close_all_files).crash is not None
        assert one(runner, functions.pid).value in runner.worker_pids()

    def test_what_a_killed_worker_started_dies_with_it(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        file = tmp_path / "child"
        outcome = one(runner, functions.start_child, file, timeout=1.0)
        assert isinstance(outcome.error, TimedOut)
        (child,) = map(int, entries(file))
        wait_until(lambda: not alive(child), "the worker's child to be gone")

    def test_calls_of_a_dead_worker_that_were_not_entered_run_elsewhere(
        self, runner: ProcessPoolTaskRunner, tmp_path: Path
    ) -> None:
        file = tmp_path / "entries"
        outcomes = run(runner, make_calls(probes.kill_worker, [(file, i, 2) for i in range(6)]))
        assert [outcome.value for outcome in outcomes] == [0, 1, None, 3, 4, 5]
        assert sorted(entries(file)) == [str(i) for i in range(6)]

    def test_workers_die_with_a_host_that_is_killed(self, tmp_path: Path) -> None:
        script = tmp_path / "host.py"
        file = tmp_path / "pids"
        script.write_text(
            textwrap.dedent(f"""
            import sys, threading
            from pathlib import Path
            sys.path.insert(0, {str(ROOT / "tests" / "support")!r})
            import worker_functions
            from penstock_runners.probes import Reports, make_calls
            from penstock_runners.processes import ProcessPoolTaskRunner

            with ProcessPoolTaskRunner(3) as runner:
                file = Path({str(file)!r})
                calls = make_calls(worker_functions.sleep_noting, [(file,), (file,)])
                calls += make_calls(worker_functions.start_child, [(file,)])
                for call in calls:
                    runner.submit([call], Reports())
                threading.Event().wait()
            """)
        )
        with subprocess.Popen([sys.executable, script]) as host:
            wait_until(lambda: len(entries(file)) == 3, "three calls to run")
            pids = [int(pid) for pid in entries(file)]
            pids += [child.pid for child in psutil.Process(host.pid).children(recursive=True)]
            host.kill()
        wait_until(lambda: not any(map(alive, pids)), "the workers to die", 5.0)

    @pytest.mark.parametrize("count", [3000, pytest.param(20_000, marks=pytest.mark.chaos)])
    def test_a_random_worker_killed_again_and_again_loses_one_call_each_time(
        self, runner: ProcessPoolTaskRunner, tmp_path: Path, count: int
    ) -> None:
        chance = random.Random(4)
        file = tmp_path / "entries"
        calls = make_calls(probes.note_and_return, [(file, i) for i in range(count)])
        reports = Reports()
        for start in range(0, len(calls), 100):
            runner.submit(calls[start : start + 100], reports)
        kills = 0
        while len(reports.all) < len(calls) - 500:
            seen = len(reports.all)
            wait_until(lambda seen=seen: len(reports.all) > seen + 150, "progress")  # type: ignore[misc]
            for pid in chance.sample(runner.worker_pids(), 1) if runner.worker_pids() else []:
                os.kill(pid, signal.SIGKILL)
                kills += 1
        outcomes = reports.of(calls)
        lines = entries(file)
        assert kills > count // 500
        assert len(reports.all) == len(calls)
        assert len(lines) == len(set(lines))
        crashed = [outcome.crash for outcome in outcomes if outcome.crash is not None]
        assert len(crashed) <= kills
        assert {str(outcome.value) for outcome in outcomes if outcome.crash is None} <= set(lines)


class TestTheWire:
    def test_the_driver_is_not_woken_for_every_call(
        self, runner: ProcessPoolTaskRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one(runner, functions.pid)
        turns = list[None]()
        turn = pool.Pool._turn
        monkeypatch.setattr(pool.Pool, "_turn", lambda self: turns.append(turn(self)))
        monkeypatch.setattr(pool, "_NAP", 60.0)
        assert len(run(runner, make_calls(probes.nap, [(0.005,)] * 100))) == 100
        assert len(turns) < 50

    def test_lines_of_a_running_call_come_at_once(self, tmp_path: Path) -> None:
        lines: list[tuple[Call, LogLine]] = []
        release = tmp_path / "release"
        runner = ProcessPoolTaskRunner(1)
        runner.on_line = lambda call, line: lines.append((call, line))
        with runner:
            reports = Reports()
            calls = make_calls(functions.log_twice, [("first", "second", release)])
            runner.submit(calls, reports)
            wait_until(lambda: len(lines) == 1, "the first line")
            release.touch()
            assert reports.of(calls)[0].logs == []
        assert [(call, line.message) for call, line in lines] == [(calls[0], "first"), (calls[0], "second")]

    def test_lines_below_the_drivers_level_stay(self, runner: ProcessPoolTaskRunner, tmp_path: Path) -> None:
        (tmp_path / "now").touch()
        logger = logging.getLogger("penstock")
        before = logger.level
        logger.setLevel(logging.ERROR)
        try:
            outcome = one(runner, functions.log_twice, "a", "b", tmp_path / "now")
        finally:
            logger.setLevel(before)
        assert list(outcome.logs) == []

    def test_lines_of_threads_that_copy_the_context_come_home(self, runner: ProcessPoolTaskRunner) -> None:
        outcome = one(runner, functions.log_from_thread, "hello")
        assert [line.message for line in outcome.logs] == ["hello"], outcome

    def test_arrays_arrive_writable_and_whole(self, runner: ProcessPoolTaskRunner) -> None:
        for size in (10, 20_000, 3_000_000):
            array = np.arange(size, dtype=float)
            outcome = one(runner, functions.double, array)
            assert outcome.error is None
            assert np.array_equal(outcome.value, array * 2)
            outcome.value += 1

    def test_more_functions_than_a_worker_keeps(self, runner: ProcessPoolTaskRunner) -> None:
        for turn in range(2):
            for number in range(40):
                assert one(runner, lambda value, number=number: value + number, turn).value == turn + number

    def test_a_function_that_the_worker_cannot_load_is_told_each_time(
        self, runner: ProcessPoolTaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one(runner, functions.pid)  # the worker has its path by now
        (tmp_path / "only_on_the_driver.py").write_text("def double(x):\n    return 2 * x\n")
        monkeypatch.syspath_prepend(tmp_path)
        import only_on_the_driver  # type: ignore[import-not-found]

        for _ in range(2):
            error = one(runner, only_on_the_driver.double, 1).error
            assert isinstance(error, SerializationError)
            assert "No module named 'only_on_the_driver'" in str(error)

    def test_a_submission_may_be_larger_than_a_shipment(self, runner: ProcessPoolTaskRunner) -> None:
        outcomes = run(runner, make_calls(probes.add, [(i,) for i in range(33_000)]))
        assert [outcome.value for outcome in outcomes] == list(range(33_000))


def test_a_report_that_fails_is_logged_and_harms_nobody(
    runner: ProcessPoolTaskRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(call: Call, outcome: Outcome) -> None:
        raise RuntimeError("in the report")

    runner.submit(make_calls(probes.add, [(1,)]), fail)
    wait_until(lambda: "in the report" in caplog.text, "the failure to be logged")
    assert one(runner, probes.add, 2).value == 2
