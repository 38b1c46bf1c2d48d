"""Engines that record in PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from postgres import Server

from penstock import Engine, flow, task
from penstock.history import History, RunQuery
from penstock.testing import wait_until

PIPELINE = Path(__file__).parents[1] / "support" / "postgres_pipeline.py"
LIVENESS = 60.0


@task
async def add(x: int) -> int:
    return x + 1


async def test_a_flow_does_not_notice_that_the_server_is_restarted(
    postgresql_server: Server, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    async def during_a_restart() -> int:
        before = sum(await add.map(range(20)))
        await asyncio.to_thread(postgresql_server.stop)
        try:
            meanwhile = sum(await add.map(range(20)))
            # There is news, so it is tried.
            await asyncio.to_thread(wait_until, lambda: "cannot be written" in caplog.text, "the failure to be noticed")
        finally:
            await asyncio.to_thread(postgresql_server.start)
        await asyncio.to_thread(wait_until, lambda: "can be written again" in caplog.text, "the server to be back")
        return before + meanwhile + sum(await add.map(range(20)))

    caplog.set_level(logging.WARNING, "penstock")
    async with Engine(history=postgresql_url):
        assert await during_a_restart() == 3 * sum(range(1, 21))
    history = History(postgresql_url)
    runs = await asyncio.to_thread(history.runs, RunQuery(kind=None, limit=None))
    assert [run.kind for run in runs].count("task") == 60
    assert [run.kind for run in runs].count("flow") == 1
    assert {run.state for run in runs} == {"Completed"}


def run_pipeline(url: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PENSTOCK_HISTORY": url}
    return subprocess.Popen([sys.executable, PIPELINE, *arguments], stdout=subprocess.PIPE, text=True, env=environment)


def test_what_a_machine_left_is_resumed_on_another(
    postgresql_server: Server, postgresql_url: str, tmp_path: Path
) -> None:
    results = str(tmp_path / "results")
    with run_pipeline(postgresql_url, results, "begin") as first:
        assert first.stdout
        run_id = first.stdout.readline().strip()
        history = History(postgresql_url)
        wait_until(
            lambda: [run.state for run in history.inside(run_id)].count("Completed") == 2, "two tasks to be recorded"
        )
        first.kill()
    # It was on another machine, and its lease is over.
    postgresql_server.sql("UPDATE penstock.owners SET place = 'there', lease = 0", postgresql_url.rpartition("/")[2])
    with run_pipeline(postgresql_url, results, "resume", run_id) as second:
        said, _ = second.communicate(timeout=LIVENESS)
    assert said == "30 [2]\n"
    crashed = history.run(run_id)
    assert crashed.type == "CRASHED"
    assert crashed.resumed_by
    assert history.run(crashed.resumed_by).state == "Completed"
