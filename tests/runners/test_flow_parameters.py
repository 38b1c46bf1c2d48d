"""A flow's parameters, asked for on a worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock import flow, runtime, task
from penstock.cache_policies import FLOW_PARAMETERS, INPUTS
from penstock.errors import SerializationError
from penstock.runners import ProcessPoolTaskRunner
from penstock_runners.parameters import LIMIT
from penstock_runners.probes import Counted, entries, note

pytestmark = pytest.mark.leaks("the pool outlives a test")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolTaskRunner]:
    with ProcessPoolTaskRunner(max_workers=1) as runner:
        yield runner


class Session:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@task
def ask_size(asking: bool) -> int:
    return len(runtime.flow_run.parameters["counted"].content) if asking else 0


@task
def ask(_: int = 0, *names: str) -> dict[str, Any]:
    return {name: runtime.flow_run.parameters[name] for name in names or runtime.flow_run.parameters}


def test_tasks_know_them_as_they_were_validated(pool: ProcessPoolTaskRunner) -> None:
    @flow(task_runner=pool)
    def report(day: str, factor: float, rest: tuple[int, ...] = (1, 2)) -> list[dict[str, Any]]:
        return ask.map(range(3), batch_size=2).result()

    expected = {"day": "monday", "factor": 2.0, "rest": (1, 2)}
    answers = report("monday", "2")  # type: ignore[arg-type]
    assert answers == [expected] * 3


def test_a_flow_without_parameters_has_none(pool: ProcessPoolTaskRunner) -> None:
    @flow(task_runner=pool)
    def report() -> dict[str, Any]:
        return ask.submit().result()

    assert report() == {}


def test_what_cannot_travel_says_so_to_whoever_asks_and_to_nobody_else(pool: ProcessPoolTaskRunner) -> None:
    @flow(task_runner=pool, validate_parameters=False)
    def report(session: Session, table: Any, day: str, *names: str) -> dict[str, Any]:
        return ask.submit(0, *names).result()

    table = np.zeros(LIMIT)
    assert report(Session(), table, "monday", "day") == {"day": "monday"}
    with pytest.raises(SerializationError, match=r"`session` did not come along.*cannot pickle '_thread\.lock'"):
        report(Session(), table, "monday", "session")
    with pytest.raises(SerializationError, match=r"`table` did not come along.* 16,384 bytes"):
        report(Session(), table, "monday", "table")


def test_they_are_pickled_once_for_a_flow_run_and_made_once_in_a_worker_that_asks(
    pool: ProcessPoolTaskRunner, tmp_path: Path
) -> None:
    @flow(task_runner=pool, validate_parameters=False)
    def report(counted: Counted, asking: bool) -> None:
        ask_size.map([asking] * 6, batch_size=2).result()

    report(Counted(tmp_path / "asked", b""), True)
    assert entries(tmp_path / "asked") == ["pickled", "unpickled"]
    report(Counted(tmp_path / "unasked", b""), False)
    assert entries(tmp_path / "unasked") == ["pickled"]


def test_what_a_task_does_to_them_stays_in_its_flow_run(pool: ProcessPoolTaskRunner) -> None:
    @task
    def spoil() -> int:
        runtime.flow_run.parameters["numbers"].append(0)
        return len(runtime.flow_run.parameters["numbers"])

    @flow(task_runner=pool)
    def report(numbers: list[int]) -> int:
        return spoil.submit().result()

    assert [report([1, 2]), report([1, 2])] == [3, 3]


@task(cache_policy=FLOW_PARAMETERS)
def note_once(file: Path, text: str) -> None:
    note(file, text)


@task
def call_inside(file: Path, text: str) -> None:
    note_once(file, text)


def test_tasks_inside_tasks_are_cached_by_them(pool: ProcessPoolTaskRunner, tmp_path: Path) -> None:
    @flow(task_runner=pool, persist_result=True, result_storage=str(tmp_path / "store"))
    def report(file: Path, day: str) -> None:
        call_inside.submit(file, day).result()

    for day in ("monday", "tuesday", "monday"):
        report(tmp_path / "days", day)
    assert entries(tmp_path / "days") == ["monday", "tuesday"]


def test_one_that_stayed_at_home_keeps_a_task_from_being_cached_by_it_and_nothing_else(
    pool: ProcessPoolTaskRunner, tmp_path: Path
) -> None:
    by_inputs = note_once.with_options(cache_policy=INPUTS)

    @task
    def call_both(file: Path) -> None:
        note_once(file, "by flow")
        by_inputs(file, "by inputs")

    @flow(task_runner=pool, validate_parameters=False, persist_result=True, result_storage=str(tmp_path / "store"))
    def report(file: Path, session: Session) -> None:
        call_both.submit(file).result()

    for _ in range(2):
        report(tmp_path / "calls", Session())
    assert sorted(entries(tmp_path / "calls")) == ["by", "by", "by", "flow", "flow", "inputs"]


def test_the_warning_names_the_parameter(
    pool: ProcessPoolTaskRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(task_runner=pool, validate_parameters=False, persist_result=True, result_storage=str(tmp_path / "store"))
    def report(file: Path, connection: Session) -> None:
        call_inside.submit(file, "here").result()

    with caplog.at_level(logging.WARNING, "penstock"):
        report(tmp_path / "calls", Session())
    (warning,) = [record.getMessage() for record in caplog.records if "`connection`" in record.getMessage()]
    assert "The call is not cached" in warning
