"""What every run of a map gets travels apart from what each run gets, and nobody notices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shared_once import SharedOnceTests

from penstock import flow, runtime, task, unmapped
from penstock.cache_policies import INPUTS
from penstock.errors import ParameterBindError
from penstock_runners.base import TaskRunner
from penstock_runners.processes import ProcessPoolTaskRunner


class TestProcesses(SharedOnceTests):
    @pytest.fixture
    def runner(self) -> Iterator[TaskRunner]:
        with ProcessPoolTaskRunner(max_workers=2) as runner:
            yield runner


@task(task_run_name="{item} of {kind}")
def describe(item: int, kind: str, *, unit: str = "m", factor: int = 1) -> tuple[str, str]:
    return runtime.task_run.name, f"{item * factor} {unit}"


def on_processes(function: Any) -> Any:
    return flow(task_runner=ProcessPoolTaskRunner(max_workers=1))(function)


def test_constants_by_position_and_by_name_reach_the_function_and_the_name() -> None:
    @on_processes
    def describe_all() -> list[tuple[str, str]]:
        return describe.map([1, 2], unmapped("length"), unit="km", factor=unmapped(10)).result()

    assert describe_all() == [("1 of length", "10 km"), ("2 of length", "20 km")]


def test_constants_that_have_no_name_reach_the_function_in_their_place() -> None:
    @task
    def joined(first: str, /, second: str, *rest: int) -> str:
        return f"{first} {second} {rest}"

    @on_processes
    def join_all() -> list[list[str]]:
        return [
            joined.map(unmapped("a"), unmapped("b"), [1, 2]).result(),
            joined.map(unmapped("a"), ["b", "c"]).result(),
            joined.map(["a", "b"], unmapped("c")).result(),
        ]

    assert join_all() == [["a b (1,)", "a b (2,)"], ["a b ()", "a c ()"], ["a c ()", "b c ()"]]


def test_constants_count_in_the_cache_key(tmp_path: Path) -> None:
    @task(cache_policy=INPUTS, persist_result=True, result_storage=str(tmp_path / "results"))
    def scale(item: int, factor: int) -> int:
        with (tmp_path / "log").open("a") as log:
            log.write(f"{item}x{factor}\n")
        return item * factor

    @on_processes
    def scale_all(factor: int) -> list[int]:
        return scale.map([1, 2], unmapped(factor)).result()

    assert [scale_all(2), scale_all(3), scale_all(2)] == [[2, 4], [3, 6], [2, 4]]
    assert sorted((tmp_path / "log").read_text().split()) == ["1x2", "1x3", "2x2", "2x3"]


def test_a_missing_or_unknown_argument_is_refused_before_anything_runs() -> None:
    @on_processes
    def map_badly(**arguments: Any) -> Any:
        return describe.map([1, 2], **arguments).result()

    with pytest.raises(ParameterBindError, match="missing a required argument: 'kind'"):
        map_badly()
    with pytest.raises(ParameterBindError, match="unexpected keyword argument 'colour'"):
        map_badly(kind="length", colour="red")
