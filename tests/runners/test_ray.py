"""The Ray runner: the shipped suite on a real Ray, and what only Ray does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_runners import LEASE, ClusterRunnerTests, gone_after_kill
from runner_calls import one

from penstock.errors import Cancelled, ConfigurationError
from penstock.testing import wait_until
from penstock_runners import probes
from penstock_runners.base import TaskRunner
from penstock_runners.probes import Reports, entries, make_calls
from penstock_runners.ray import RayTaskRunner, remote_options

pytestmark = pytest.mark.leaks("the shared Ray outlives a test, and Ray replaces the workers that tests kill")

SMALL = {"num_cpus": 2, "object_store_memory": 700 * 1024 * 1024, "resources": {"LICENCE": 1}}


@pytest.fixture(scope="module")
def shared() -> Iterator[TaskRunner]:
    before = dict(os.environ)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with RayTaskRunner(init_kwargs=SMALL, lease=LEASE) as runner:
        assert dict(os.environ) == before
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        yield runner


class TestRay(ClusterRunnerTests):
    """Where a test makes a runner of its own, that one uses the session of the shared one, and leaves it."""

    def make_runner(self) -> TaskRunner:
        return RayTaskRunner(init_kwargs=SMALL)

    @pytest.fixture(autouse=True)
    def runner(self, shared: TaskRunner) -> TaskRunner:
        return shared


def resources() -> dict[str, Any]:
    import ray

    return dict(ray.get_runtime_context().get_assigned_resources())


def test_a_session_that_was_there_is_left_as_it_was(shared: TaskRunner) -> None:
    import ray

    with RayTaskRunner() as runner:
        assert one(runner, probes.add, 1).value == 1
    assert ray.is_initialized()
    assert one(shared, probes.add, 1).value == 1


def test_options_of_a_task_and_of_a_block_reach_ray(shared: TaskRunner) -> None:
    assert one(shared, resources).value["CPU"] == 1.0
    assert one(shared, resources, options={"num_cpus": 2, "priority": 1}).value["CPU"] == 2.0
    calls, reports = make_calls(resources, [()], options={"num_cpus": 2}), Reports(30.0)
    with remote_options(num_cpus=1), remote_options(resources={"LICENCE": 1}):
        calls = [replace(call, context=copy_context()) for call in calls]
    shared.submit(calls, reports)
    assert reports.of(calls)[0].value == {"CPU": 1.0, "LICENCE": 1.0}


def test_options_that_are_ours_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_retries"), remote_options(max_retries=3):
        pass
    with pytest.raises(ConfigurationError, match="address="):
        RayTaskRunner(init_kwargs={"address": "auto"})


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", None])
def test_ray_client_is_refused_with_what_to_do_instead(address: str | None) -> None:
    """In a process of its own: in this one there is a session, which comes before ``RAY_ADDRESS``."""
    code = f"from penstock_runners.ray import RayTaskRunner; RayTaskRunner({address!r}).__enter__()"
    environment = {**os.environ, "RAY_ADDRESS": "ray://10.0.0.1:10001"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "ConfigurationError: RayTaskRunner cannot use Ray Client (ray://10.0.0.1:10001)" in ended.stderr


_LOSES_ITS_HEAD = """
import psutil, ray
from penstock_runners.probes import Reports, add, make_calls, nap
from penstock_runners.ray import RayTaskRunner
with RayTaskRunner(init_kwargs={"num_cpus": 1, "object_store_memory": 100_000_000}, lease=2.0) as runner:
    before, at_work, later = make_calls(add, [(1,)]), make_calls(nap, [(60.0,)]), make_calls(add, [(1,)])
    reports = Reports()
    runner.submit(before, reports)
    assert reports.of(before)[0].value == 1
    runner.submit(at_work, reports)
    next(each for each in psutil.Process().children(recursive=True) if each.name() == "gcs_server").kill()
    print(reports.of(at_work)[0].crash.reason)
    runner.submit(later, reports)
    crash = reports.of(later)[0].crash
    print(crash.reason, crash.entered, crash.hopeless, "does not answer any more" in str(crash))
print(ray.is_initialized())
"""


def test_a_head_that_is_lost_is_a_crash_by_that_name_and_ray_is_left_before_it_ends_this_process() -> None:
    command = [sys.executable, "-c", _LOSES_ITS_HEAD]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.split("\n") == ["ray_lost", "ray_lost False True True", "False", ""]


def test_cancelling_a_running_call_ends_it(shared: TaskRunner, tmp_path: Path) -> None:
    file, never = tmp_path / "entries", tmp_path / "never"
    (call,), reports = make_calls(probes.hold, [(file, never)]), Reports(30.0)
    shared.submit([call], reports)
    wait_until(lambda: bool(entries(file)), "the call to be entered")
    assert shared.cancel(call)
    assert isinstance(reports.of([call])[0].error, Cancelled)
    assert one(shared, probes.add, 1).value == 1


_DRIVER = """
import psutil, sys, time
from pathlib import Path
from penstock_runners.ray import RayTaskRunner
if __name__ == "__main__":
    with RayTaskRunner(init_kwargs={"num_cpus": 1, "object_store_memory": 100_000_000}):
        me = psutil.Process()
        children = me.children(recursive=True)
        links = [link for each in (me, *children) for link in each.net_connections() if link.status == "LISTEN"]
        found = {link.laddr.ip for link in links}
        Path(sys.argv[0]).with_name("listening").write_text(" ".join(sorted(found)))
        print(*(child.pid for child in children), flush=True)
        time.sleep(60)
"""


def test_our_own_ray_listens_on_loopback_and_is_gone_when_the_driver_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    gone_after_kill(script, 10.0)
    assert {ip.removeprefix("::ffff:") for ip in (tmp_path / "listening").read_text().split()} == {"127.0.0.1"}


_LOSES_WORKERS = """
from penstock_runners.probes import Reports, exit_worker, make_calls
from penstock_runners.ray import RayTaskRunner
from penstock.testing import wait_until
with RayTaskRunner(init_kwargs={'num_cpus': 1, 'object_store_memory': 100_000_000}) as runner:
    from ray._private.worker import stdout_deduplicator  # what Ray would print about the worker passes through it
    heard, deduplicate = [], stdout_deduplicator.deduplicate
    stdout_deduplicator.deduplicate = lambda batch: heard.extend(batch["lines"]) or deduplicate(batch)
    for number in (1, 2):
        calls, reports = make_calls(exit_worker, [(1,)] * number), Reports()
        runner.submit(calls, reports)
        assert all(outcome.crash is not None for outcome in reports.of(calls))
        wait_until(lambda: sum("died" in line for line in heard) >= number, "Ray to have heard of the worker's death")
"""


def test_our_own_ray_is_quiet_also_about_workers_that_are_lost() -> None:
    program = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOSES_WORKERS], capture_output=True, text=True, timeout=100, check=False
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")
