"""The Dask runner: the shipped suite on a real cluster, and what only Dask does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_runners import LEASE, ClusterRunnerTests, gone_after_kill, listening, where
from runner_calls import one

from penstock.errors import Cancelled, ConfigurationError, CrashedRun, MissingContextError, RunnerError
from penstock.ports import Call, LogLine
from penstock.testing import wait_until
from penstock_runners import probes
from penstock_runners.base import TaskRunner
from penstock_runners.dask import DaskTaskRunner, get_dask_client
from penstock_runners.probes import Reports, entries, make_calls

pytestmark = pytest.mark.leaks("the shared cluster outlives a test, and Dask replaces the workers that tests kill")


@pytest.fixture(scope="module")
def shared() -> Iterator[TaskRunner]:
    with DaskTaskRunner(cluster_kwargs={"n_workers": 2, "resources": {"LICENCE": 1}}, lease=LEASE) as runner:
        yield runner


class TestDask(ClusterRunnerTests):
    def make_runner(self) -> TaskRunner:
        return DaskTaskRunner(cluster_kwargs={"n_workers": 2})

    @pytest.fixture
    def runner(self, shared: TaskRunner) -> TaskRunner:
        return shared


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "tcp://host:1", "cluster_class": "some.Cluster"}, "takes one of"),
        ({"cluster": object(), "address": "tcp://host:1"}, "takes one of"),
        ({"address": "tcp://host:1", "cluster_kwargs": {"n_workers": 1}}, "leave them out"),
        ({"cluster": object(), "adapt_kwargs": {"minimum": 1}}, "leave them out"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        DaskTaskRunner(**settings)


def test_a_cluster_class_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no\.such\.Cluster"):
        DaskTaskRunner(cluster_class="no.such.Cluster").open(None)  # type: ignore[arg-type]


def test_a_named_cluster_class_grows_from_nothing_where_it_may_adapt() -> None:
    kwargs = {"n_workers": 0, "host": "127.0.0.1", "dashboard_address": None}
    with DaskTaskRunner(
        cluster_class="distributed.LocalCluster", cluster_kwargs=kwargs, adapt_kwargs={"minimum": 0, "maximum": 1}
    ) as runner:
        assert one(runner, probes.add, 1).value == 1


def test_dask_writes_its_report_when_the_runner_is_closed(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    with DaskTaskRunner(cluster_kwargs={"n_workers": 1}, performance_report_path=report) as runner:
        assert one(runner, probes.add, 1).value == 1
        assert not report.exists()
    assert "Dask Performance Report" in report.read_text()


def test_a_report_without_what_draws_it_is_refused_when_the_runner_is_opened() -> None:
    code = """
import sys
sys.modules["bokeh"] = None  # what an import of it finds where it is not installed
from penstock_runners.dask import DaskTaskRunner
if __name__ == "__main__":
    DaskTaskRunner(cluster_kwargs={"n_workers": 1}, performance_report_path="report.html").__enter__()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigurationError: DaskTaskRunner(performance_report_path=...) needs bokeh" in ended.stderr


def test_a_scheduler_that_is_not_there_is_an_error_within_seconds() -> None:
    runner = DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 0.5})
    with pytest.raises(RunnerError, match=r"cannot reach the scheduler at tcp://127\.0\.0\.1:9"):
        runner.open(None)  # type: ignore[arg-type]


# --- whose cluster it is ---


@contextmanager
def local_cluster(**options: Any) -> Iterator[Any]:
    from distributed import LocalCluster

    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50, **options}
    settings["scheduler_kwargs"] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**settings) as cluster:
        yield cluster


def test_a_cluster_that_was_handed_in_is_left_as_it_was(tmp_path: Path) -> None:
    from distributed import Client

    with local_cluster() as cluster, Client(cluster, set_as_default=False) as client:
        plugins, clients = set(cluster.scheduler.plugins), set(cluster.scheduler.clients)
        runner = DaskTaskRunner(cluster=cluster)
        with runner.duplicate() as runner:
            assert runner.capacity == 2
            assert one(runner, probes.add, 1, 2).value == 3
            assert one(runner, note_and_make, tmp_path / "entries").value.size > 1_000_000
        assert cluster.status.name == "running"
        assert client.submit(probes.add, 1, 1).result() == 2
        wait_until(lambda: set(cluster.scheduler.clients) == clients, "the runner's client to be gone", 10.0)
        assert set(cluster.scheduler.plugins) == plugins
        wait_until(lambda: not cluster.scheduler.tasks, "the runner's tasks to be gone", 10.0)
        assert not any(cluster.scheduler.get_events(topic) for topic in _topics(cluster) if "penstock" in topic)


def _topics(cluster: Any) -> list[str]:
    return list(cluster.scheduler.get_events())


def test_a_cluster_of_threads_in_this_process_works_too() -> None:
    with DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2, "processes": False}) as runner:
        assert runner.capacity == 2
        assert one(runner, where).value == os.getpid()


def test_our_own_cluster_leaves_the_environment_alone_and_listens_on_loopback_only() -> None:
    before = dict(os.environ)
    with DaskTaskRunner(cluster_kwargs={"n_workers": 1}):
        assert dict(os.environ) == before
        assert listening(psutil.Process()) == {"127.0.0.1"}
    assert dict(os.environ) == before


_DRIVER = """
import psutil, sys, time
from penstock_runners.dask import DaskTaskRunner
if __name__ == "__main__":
    with DaskTaskRunner(cluster_kwargs={"n_workers": 2}):
        print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
        time.sleep(60)
"""


def measures_itself() -> bool:
    from dask import config

    enabled: bool = config.get("distributed.worker.profile.enabled")
    return enabled


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, False), ({"cluster_class": "distributed.LocalCluster"}, True)],
    ids=["ours", "named"],
)
def test_a_cluster_measures_itself_only_where_somebody_may_look(settings: dict[str, Any], expected: bool) -> None:
    kwargs = {"n_workers": 1, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    with DaskTaskRunner(cluster_kwargs=kwargs, **settings) as runner:
        assert one(runner, measures_itself).value is expected
    assert measures_itself(), "for others in this process"


def test_our_own_cluster_is_gone_when_the_driver_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    gone_after_kill(script, 10.0)


async def test_a_runner_opens_and_works_beside_a_running_loop() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 1, "processes": False})
    await asyncio.to_thread(runner.__enter__)
    calls, done = make_calls(probes.add, [(1, 2)]), asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    runner.submit(calls, lambda call, outcome: loop.call_soon_threadsafe(done.set_result, outcome.value))
    assert await done == 3
    await asyncio.to_thread(runner.close, 1.0)
    ticking.cancel()
    assert ticks


# --- workers and schedulers that are lost ---


def test_on_somebody_elses_cluster_a_lost_task_is_not_run_again(tmp_path: Path) -> None:
    """Dask would run it up to four times there; the fence lets it be lost once."""
    file, never = tmp_path / "entries", tmp_path / "never"
    with local_cluster() as cluster, DaskTaskRunner(address=cluster.scheduler_address) as runner:
        assert cluster.scheduler.allowed_failures > 0
        (call,), reports = make_calls(hold_with_pid, [(file, never)]), Reports(30.0)
        runner.submit([call], reports)
        wait_until(lambda: bool(entries(file)), "the call to be entered")
        os.kill(int(entries(file)[0]), signal.SIGKILL)
        crash = reports.of([call])[0].crash
        assert isinstance(crash, CrashedRun)
        assert (crash.reason, crash.entered) == ("worker_lost", True)
        assert one(runner, probes.add, 1).value == 1
        assert len(entries(file)) == 1


def hold_with_pid(file: Path, release: Path) -> None:
    probes.hold(file, release, os.getpid())


def test_a_kept_value_that_is_lost_with_its_worker_is_named_and_not_made_again(tmp_path: Path) -> None:
    file = tmp_path / "entries"
    with DaskTaskRunner(cluster_kwargs={"n_workers": 1}) as runner:
        reference = one(runner, note_and_make, file).value
        os.kill(one(runner, where).value, signal.SIGKILL)
        wait_until(lambda: one(runner, probes.add, 1).value == 1, "a new worker")
        with pytest.raises(CrashedRun) as caught:
            reference.load()
        assert caught.value.reason == "value_lost"
        crash = one(runner, len, reference).crash
        assert isinstance(crash, CrashedRun)
        assert crash.reason == "value_lost"
    assert len(entries(file)) == 1


def note_and_make(file: Path) -> bytes:
    probes.note(file, "made")
    return bytes(1_000_000)


def test_a_scheduler_that_is_lost_is_a_crash_by_that_name() -> None:
    port = 45_000 + os.getpid() % 10_000
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    options = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*dask, "--no-dashboard"], **options)  # type: ignore[call-overload]
    helper = subprocess.Popen([*worker, "--no-dashboard"], **options)  # type: ignore[call-overload]
    try:
        with DaskTaskRunner(address=address, client_kwargs={"timeout": 20}) as runner:
            assert one(runner, probes.add, 1).value == 1
            (call,), reports = make_calls(probes.nap, [(30.0,)]), Reports(10.0)
            runner.submit([call], reports)
            scheduler.kill()
            crash = reports.of([call])[0].crash
            assert isinstance(crash, CrashedRun)
            assert (crash.reason, crash.hopeless) == ("scheduler_lost", True)
    finally:
        for process in (scheduler, helper):
            process.kill()
            process.wait()


# --- what Dask lets tasks do ---


def use_client(number: int) -> int:
    with get_dask_client() as client:
        return int(client.submit(probes.add, number, 1).result())


def test_a_task_can_use_the_cluster_that_it_runs_on(shared: TaskRunner) -> None:
    assert one(shared, use_client, 1).value == 2
    with pytest.raises(MissingContextError, match="not a Dask worker"), get_dask_client():
        pass


def test_resources_hold_a_call_back(shared: TaskRunner) -> None:
    assert one(shared, probes.add, 1, options={"resources": {"LICENCE": 1}, "priority": 5}).value == 1
    (call,), reports = make_calls(probes.add, [(1,)], options={"resources": {"NONE": 1}}), Reports(10.0)
    shared.submit([call], reports)
    assert one(shared, probes.add, 2).value == 2
    assert shared.cancel(call)
    assert isinstance(reports.of([call])[0].error, Cancelled)


def test_log_lines_of_a_running_call_come_home_at_once(tmp_path: Path) -> None:
    lines: list[tuple[Call, LogLine]] = []
    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 1})
    runner.on_line = lambda call, line: lines.append((call, line))
    release = tmp_path / "release"
    with runner:
        (call,), reports = make_calls(warn_and_hold, [(release,)]), Reports(30.0)
        runner.submit([call], reports)
        wait_until(lambda: bool(lines), "the line")
        assert reports.count(call) == 0
        release.touch()
        assert list(reports.of([call])[0].logs) == []
    assert [(owner is call, line.message) for owner, line in lines] == [(True, "here")]


def warn_and_hold(release: Path) -> None:
    import logging

    logging.getLogger("penstock").warning("here")
    wait_until(release.exists, "the driver to have seen the line")
