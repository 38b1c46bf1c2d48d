"""The eight cells - flow and task, sync and async, called and submitted - wherever a program may start one."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cells
import pytest

WATCHDOG = 5.0
"""Seconds: nothing here takes longer than milliseconds, so more means that it hangs."""


@pytest.mark.timeout(WATCHDOG + 15)
@pytest.mark.parametrize("runner", cells.RUNNERS)
def test_cells_in_a_script(runner: str) -> None:
    script = Path(cells.__file__)
    answer = subprocess.run(
        [sys.executable, "-W", "error", str(script), runner], capture_output=True, text=True, timeout=WATCHDOG + 10
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["2"] * 8


@pytest.mark.timeout(WATCHDOG)
@pytest.mark.parametrize("cell", cells.CELLS, ids=cells.name_of)
@pytest.mark.parametrize("runner", cells.RUNNERS)
def test_cell_in_a_plain_function(cell: cells.Cell, runner: str) -> None:
    answer = cells.make(cell, runner)(1)
    assert (asyncio.run(answer) if inspect.isawaitable(answer) else answer) == 2


@pytest.mark.timeout(WATCHDOG)
@pytest.mark.parametrize("cell", cells.CELLS, ids=cells.name_of)
@pytest.mark.parametrize("runner", cells.RUNNERS)
async def test_cell_under_pytests_plugin_inside_a_running_loop(cell: cells.Cell, runner: str) -> None:
    answer = cells.make(cell, runner)(1)
    assert (await answer if inspect.isawaitable(answer) else answer) == 2


@pytest.mark.timeout(WATCHDOG)
@pytest.mark.parametrize("cell", cells.CELLS, ids=cells.name_of)
@pytest.mark.parametrize("runner", cells.RUNNERS)
def test_cell_in_a_thread(cell: cells.Cell, runner: str) -> None:
    answers: list[Any] = []

    def body() -> None:
        answer = cells.make(cell, runner)(1)
        answers.append(asyncio.run(answer) if inspect.isawaitable(answer) else answer)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(WATCHDOG)
    assert answers == [2]


@pytest.mark.timeout(WATCHDOG)
@pytest.mark.parametrize("cell", cells.CELLS, ids=cells.name_of)
@pytest.mark.parametrize("runner", cells.RUNNERS)
async def test_cell_in_a_thread_of_a_running_loop(cell: cells.Cell, runner: str) -> None:
    def body() -> Any:
        answer = cells.make(cell, runner)(1)
        return asyncio.run(answer) if inspect.isawaitable(answer) else answer

    assert await asyncio.to_thread(body) == 2
