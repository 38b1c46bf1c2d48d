"""kill -9 of the driver, anywhere: nothing runs again that had completed, and the value is the same (G1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import Forks, Trial, delays, forking


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with forking() as forks:
        yield forks


def kill_and_resume(forks: Forks, folder: Path, runner: str, kills: int, seed: int, **order: object) -> int:
    """Kill drivers until so many have died, each flow after one to three of them resumed to its end; checks all.

    Returns:
        How many flows there were.
    """
    Trial(folder / "first", forks, runner=runner, **order).run()  # which imports what is not imported yet
    whole = Trial(folder / "whole", forks, runner=runner, **order)
    longest = whole.run()
    value = whole.value
    assert value is not None
    whole.check(value)
    moments, left = delays(seed, longest), kills
    for number in itertools.count():
        if left <= 0:
            return number
        trial = Trial(folder / str(number), forks, runner=runner, **order)
        for _ in range(min(left, 1 + number % 3)):
            if not trial.kill_after(next(moments)):
                break
            left -= 1
        else:
            trial.run()
        trial.check(value)
    raise AssertionError("there is always another number")


@pytest.fixture(scope="module")
def dask() -> Iterator[str]:
    """A cluster that outlives the drivers; gives its address."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:  # type: ignore[no-untyped-call]
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def ray() -> Iterator[str]:
    """Likewise."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=150 << 20, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def often(few: int) -> pytest.MarkDecorator:
    """A few kills in the suite, and two hundred by themselves."""
    many = pytest.param(200, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])
    return pytest.mark.parametrize("kills", [few, many])


@often(20)
@pytest.mark.parametrize("runner", ["sequential", "threads", "asyncio"])
def test_kill_in_process(forks: Forks, tmp_path: Path, runner: str, kills: int) -> None:
    kill_and_resume(forks, tmp_path, runner, kills, seed=1, pause=0.002)


@often(4)
def test_kill_with_processes(forks: Forks, tmp_path: Path, kills: int) -> None:
    kill_and_resume(forks, tmp_path, "processes", kills, seed=2, pause=0.01)


@often(3)
def test_kill_with_dask(forks: Forks, tmp_path: Path, dask: str, kills: int) -> None:
    kill_and_resume(forks, tmp_path, "dask", kills, seed=3, pause=0.01, address=dask)


@often(2)
def test_kill_with_ray(tmp_path: Path, ray: str, kills: int) -> None:
    with forking() as forks:  # in the environment that Ray has made for those who may join
        kill_and_resume(forks, tmp_path, "ray", kills, seed=4, pause=0.01, address=ray)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_map_of_a_thousand_goes_on_where_it_was_killed(forks: Forks, tmp_path: Path) -> None:
    kill_and_resume(forks, tmp_path, "threads", kills=20, seed=6, pause=0.0, items=1000)
