"""What all runs of a map share travels once, whatever the number of runs: tests for every runner with workers."""

from __future__ import annotations

from pathlib import Path

from penstock import flow, task, unmapped
from penstock_runners.base import TaskRunner
from penstock_runners.probes import Counted, entries, length

SIZE = 5_000_000
COUNT = 10_000


class SharedOnceTests:
    """Inherit this beside a fixture ``runner``."""

    def test_a_large_callable_is_pickled_once(self, runner: TaskRunner, tmp_path: Path) -> None:
        large = Counted(tmp_path / "pickles", bytes(SIZE))

        @task
        def with_its_variable(number: int) -> int:
            return length(large, number)

        @flow(task_runner=runner)
        def measure() -> list[int]:
            return with_its_variable.map(range(COUNT)).result()

        assert measure() == [SIZE + number for number in range(COUNT)]
        check(tmp_path / "pickles", runner)

    def test_a_large_unmapped_argument_is_pickled_once(self, runner: TaskRunner, tmp_path: Path) -> None:
        large = Counted(tmp_path / "pickles", bytes(SIZE))

        @flow(task_runner=runner)
        def measure() -> list[int]:
            return task(length).map(unmapped(large), range(COUNT)).result()

        assert measure() == [SIZE + number for number in range(COUNT)]
        check(tmp_path / "pickles", runner)


def check(file: Path, runner: TaskRunner) -> None:
    assert entries(file).count("pickled") == 1
    assert 1 <= entries(file).count("unpickled") <= runner.capacity
