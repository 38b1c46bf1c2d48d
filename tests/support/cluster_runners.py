"""What Dask and Ray have in common beside the shipped suite: values that stay on the cluster, and who ends it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import worker_functions as functions
from shared_once import SharedOnceTests

from penstock import flow, task
from penstock.errors import ConfigurationError, CrashedRun, RunnerError
from penstock.ports import Call, Outcome, Reference
from penstock.testing import wait_until
from penstock_runners import probes
from penstock_runners.base import TaskRunner
from penstock_runners.probes import entries, make_calls
from penstock_runners.testing import RunnerTests

Array = np.ndarray[Any, np.dtype[np.float64]]
Link = tuple[object, object]


def make_array(length: int) -> Array:
    return np.ones(length)


def add_one(array: Array) -> Array:
    return array + 1


def total(arrays: dict[str, list[Array]], factor: int = 1) -> float:
    return factor * sum(float(array.sum()) for array in arrays["all"])


def scaled(factor: int, array: Array) -> float:
    return factor * float(array.sum())


def where() -> int:
    return os.getpid()


def work_or_die(file: Path, number: int) -> int:
    """Leave a mark, then work for a moment, so that others are at work too; every tenth kills its worker."""
    probes.note(file, number)
    time.sleep(0.01)
    if number % 10 == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def work_or_freeze(file: Path, number: int) -> int:
    """Leave a mark, and stop the worker if it is the one in the middle."""
    probes.note(file, number)
    if number == 2:
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # takes effect before this returns
    return number


def hold_and_say_where(file: Path, release: Path) -> int:
    probes.hold(file, release, os.getpid())
    return os.getpid()


LEASE = 1.0
"""Seconds; that of the runners under test."""


class ClusterRunnerTests(RunnerTests, SharedOnceTests):
    """The shipped suite, with large values brought home where it expects values, and the tests below."""

    def run(self, runner: TaskRunner, calls: list[Call]) -> list[Outcome]:
        outcomes = super().run(runner, calls)
        for outcome in outcomes:
            if isinstance(outcome.value, Reference):
                outcome.value = outcome.value.load()
        return outcomes

    def kept(self, runner: TaskRunner, function: Any, *args: Any) -> Reference:
        (outcome,) = super().run(runner, make_calls(function, [args]))
        assert isinstance(outcome.value, Reference), outcome
        return outcome.value

    def test_large_values_never_pass_through_the_driver(self, runner: TaskRunner) -> None:
        length = 100_000_000 // 8

        @flow(task_runner=runner)
        def chain() -> float:
            value = task(add_one).submit(task(add_one).submit(task(make_array).submit(length)))
            return task(total).submit({"all": [value, value]}, factor=10).result()

        before = psutil.Process().memory_info().rss
        with arrivals() as arrived:
            assert chain() == 10 * 2 * 3 * length
            assert arrived() < 1_000_000
        assert psutil.Process().memory_info().rss - before < 50_000_000

    def test_what_does_pass_through_the_driver_is_seen(self, runner: TaskRunner) -> None:
        """The test above could find it."""
        with arrivals() as arrived:
            value = self.kept(runner, make_array, 200_000)
            assert arrived() < 100_000
            assert float(value.load().sum()) == 200_000.0
            assert arrived() > 8 * 200_000

    def test_a_reference_may_go_back_to_the_runner_that_made_it(self, runner: TaskRunner) -> None:
        value = self.kept(runner, make_array, 20_000)
        assert (value.size or 0) > 8 * 20_000
        assert runner.accepts(value)
        (call,) = make_calls(total, [({"all": [value, value]},)], constants={"factor": 10})
        assert super().run(runner, [call])[0].value == 10 * 2 * 20_000

    def test_a_kept_value_among_the_constants_reaches_every_call(self, runner: TaskRunner) -> None:
        array = self.kept(runner, make_array, 20_000)
        outcomes = self.run(runner, make_calls(scaled, [(1,), (2,)], constants={"array": array}))
        assert [outcome.value for outcome in outcomes] == [20_000.0, 40_000.0]

    def test_a_reference_of_a_runner_that_was_closed_says_so(self) -> None:
        with self.make_runner() as runner:
            reference = self.kept(runner, make_array, 20_000)
            assert float(reference.load().sum()) == 20_000.0
        assert not runner.accepts(reference)
        with pytest.raises(RunnerError, match="before the runner is closed"):
            reference.load()

    def test_workers_that_die_under_load(self, runner: TaskRunner, tmp_path: Path) -> None:
        file = tmp_path / "entries"
        calls = make_calls(work_or_die, [(file, i) for i in range(40)])
        reports = self.reports()
        for start in range(0, 20, 5):
            runner.submit(calls[start : start + 5], reports)
        for call in calls[20:]:
            runner.submit([call], reports)
        outcomes = reports.of(calls)
        lost = [number for number, outcome in enumerate(outcomes) if outcome.crash is not None]
        assert {9, 19, 29, 39} <= set(lost)
        assert all(outcome.value == i for i, outcome in enumerate(outcomes) if i not in lost)
        assert all(isinstance(outcomes[number].crash, CrashedRun) for number in lost)
        assert len(entries(file)) == len(set(entries(file))), "a call was entered twice"
        assert len(reports.all) == len(calls)

    def test_a_frozen_worker_is_given_up_after_the_lease_and_its_batch_goes_on(
        self, runner: TaskRunner, tmp_path: Path
    ) -> None:
        file = tmp_path / "entries"
        calls = make_calls(work_or_freeze, [(file, number) for number in range(5)])
        reports = self.reports()
        runner.submit(calls, reports)
        outcomes = reports.of(calls)
        crash = outcomes[2].crash
        assert isinstance(crash, CrashedRun), outcomes[2]
        assert (crash.reason, crash.entered) == ("frozen", True)
        assert f"lease of {LEASE:g} s" in str(crash)
        assert [outcomes[number].value for number in (0, 1, 3, 4)] == [0, 1, 3, 4]
        assert self.one(runner, probes.add, 1).value == 1
        assert sorted(entries(file)) == ["0", "1", "2", "3", "4"]  # it never woke up
        assert [reports.count(call) for call in calls] == [1] * 5

    def test_calls_that_a_frozen_worker_never_entered_go_to_another(self, runner: TaskRunner, tmp_path: Path) -> None:
        now = tmp_path / "now"
        calls = make_calls(hold_and_say_where, [(tmp_path / "entries", now)] * 2)
        reports = self.reports()
        for call in calls:
            runner.submit([call], reports)
        wait_until(lambda: len(entries(tmp_path / "entries")) == 2, "both workers to be busy")
        now.touch()
        workers = [psutil.Process(outcome.value) for outcome in reports.of(calls)]
        for worker in workers:
            worker.suspend()
        outcomes = self.run(runner, make_calls(where, [()]))
        outcomes += self.run(runner, make_calls(where, [()]))
        assert all(outcome.value not in {worker.pid for worker in workers} for outcome in outcomes), outcomes

    def test_a_worker_that_is_woken_within_the_lease_is_no_crash(self, runner: TaskRunner, tmp_path: Path) -> None:
        file = tmp_path / "entries"
        calls, reports = make_calls(functions.stop_self, [(file,)]), self.reports()
        runner.submit(calls, reports)
        functions.wake(file)
        assert reports.of(calls)[0].value == "woken"

    def test_a_worker_that_holds_the_interpreter_is_not_frozen(self, runner: TaskRunner) -> None:
        assert self.one(runner, functions.hold_the_interpreter, 2 * LEASE).value == "done"

    def test_a_lease_that_is_none_is_refused(self, runner: TaskRunner) -> None:
        with pytest.raises(ConfigurationError, match=r"lease=0\.0"):
            type(runner)(lease=0.0)  # type: ignore[call-arg]

    def test_importing_the_runner_imports_no_cluster_library(self) -> None:
        module = type(self.make_runner()).__module__
        code = f"import sys, {module}; sys.exit(bool({{'ray', 'dask', 'distributed'}} & sys.modules.keys()))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@contextmanager
def arrivals() -> Iterator[Callable[[], int]]:
    """How many bytes come into this process in the block: over its TCP connections, and out of Ray's store."""
    before, objects = _over_connections(), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        if "ray" in sys.modules:  # whose objects lie in memory that this process shares with its workers
            worker = sys.modules["ray"]._private.worker.Worker
            deserialize = worker.deserialize_objects

            def count(self: Any, serialized: Any, *others: Any, **named: Any) -> Any:
                objects.extend(len(data) for data, *_ in serialized if data is not None)
                return deserialize(self, serialized, *others, **named)

            patch.setattr(worker, "deserialize_objects", count)
        yield lambda: _growth(before, _over_connections()) + sum(objects)


def _growth(before: dict[Link, int], after: dict[Link, int]) -> int:
    return sum(count - before.get(link, 0) for link, count in after.items())


def _over_connections() -> dict[Link, int]:
    links = psutil.Process().net_connections("tcp")
    counts = {(link.laddr, link.raddr): _received(link.fd) for link in links if link.status == psutil.CONN_ESTABLISHED}
    return {link: count for link, count in counts.items() if count is not None}


def _received(descriptor: int) -> int | None:
    """What a connection received; None for one that another thread closed, or put a file in its place, since."""
    try:
        connection = socket.socket(fileno=descriptor)
        try:
            information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
        finally:
            connection.detach()  # it is not ours to close
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.ENOTSOCK, errno.EOPNOTSUPP):
            raise
        return None
    (count,) = struct.unpack_from("=Q", information, 128)  # tcpi_bytes_received of struct tcp_info
    return int(count)


def gone_after_kill(script: Path, patience: float) -> None:
    """Start a program that opens a runner and prints its children, kill it, and wait until they are gone."""
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        children = [psutil.Process(int(pid)) for pid in program.stdout.readline().split()]
        assert children
        program.kill()
    _, alive = psutil.wait_procs(children, timeout=patience)
    try:
        assert not alive, f"processes left behind: {[(process.pid, process.name()) for process in alive]}"
    finally:
        for process in alive:
            process.kill()


def listening(process: psutil.Process) -> set[str]:
    """The addresses on which a process and its children take connections."""
    found = set()
    for each in (process, *process.children(recursive=True)):
        with each.oneshot():
            found.update(link.laddr.ip for link in each.net_connections() if link.status == psutil.CONN_LISTEN)
    return found


__all__ = ("LEASE", "ClusterRunnerTests", "gone_after_kill", "listening", "where")
