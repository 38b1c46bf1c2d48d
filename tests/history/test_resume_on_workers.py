"""What completed inside a task on a worker is not executed again, although the driver never heard of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from penstock import Engine, flow, task, wait
from penstock.history import History, resume
from penstock.runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from penstock_runners.probes import entries, note


@task
def inner(folder: Path, n: int) -> int:
    note(folder / "entered", f"inner-{n}")
    return n + 1


@task
def outer(folder: Path, n: int) -> int:
    note(folder / "entered", f"outer-{n}")
    total = inner(folder, n) + inner(folder, n + 1)
    if not (folder / "mended").exists():
        raise ConnectionError("after the tasks inside had completed")
    return total


@flow
def below(folder: Path, n: int) -> int:
    return outer.submit(folder, n).result()


@flow(persist_result=True)
def above(folder: Path) -> int:
    return below(folder, 1) + outer.submit(folder, 10).result()


@pytest.fixture(params=[ThreadPoolTaskRunner, ProcessPoolTaskRunner])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    runner: TaskRunner = request.param(2)
    with Engine(runner, history=History(tmp_path / "history.db"), results=tmp_path / "results") as engine:
        yield engine


def resumed(engine: Engine) -> Any:
    assert engine.history is not None
    recorder = engine.history.open(engine)
    recorder.flush(10)
    first = next(record for record in engine.history.runs() if record.parent is None)
    return resume(first.id)


def test_what_completed_inside_a_task_is_found(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "entered"
    with pytest.raises(ConnectionError):
        above(tmp_path)
    assert entries(file) == ["outer-1", "inner-1", "inner-2"]
    os.truncate(file, 0)

    (tmp_path / "mended").touch()
    assert resumed(engine) == 5 + 23
    assert entries(file) == ["outer-1", "outer-10", "inner-10", "inner-11"]


@task(persist_result=True)
def deep(folder: Path, n: int) -> str:
    note(folder / "entered", f"deep-{n}")
    return str(uuid4())


@flow
def deeper(folder: Path, n: int) -> str:
    return deep(folder, n)


@task(persist_result=True)
def around(folder: Path, number: int) -> str:
    made = deeper(folder, 0)
    if number == 1 and not (folder / "mended").exists():
        raise ConnectionError("after the flow inside had completed")
    return made


@flow(persist_result=True)
def program(folder: Path) -> list[str]:
    made = around.map(folder, [0, 1, 2])
    wait(made)
    return made.result()


def test_what_completed_in_a_flow_inside_a_task_is_found_for_each_by_itself(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "entered"
    with pytest.raises(ConnectionError):
        program(tmp_path)
    assert entries(file) == ["deep-0"] * 3
    (tmp_path / "mended").touch()
    found = resumed(engine)
    assert len(set(found)) == 3
    assert entries(file) == ["deep-0"] * 3
