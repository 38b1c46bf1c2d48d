"""The programs of how-to pages do what their pages promise, when they are killed, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import loopback
import pytest
import s3server

from penstock.history import History, RunQuery
from penstock.runners import ProcessPoolTaskRunner
from penstock.testing import wait_until

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@contextmanager
def serving(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The service of the page about jobs, under uvicorn."""
    command = [sys.executable, "-m", "uvicorn", "jobs_service:app", "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: loopback.listens(port), "the service to listen", 60)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as user:
                yield process, user
        finally:
            process.kill()


def test_a_job_goes_on_when_its_service_was_killed(tmp_path: Path) -> None:
    (tmp_path / "jobs_service.py").write_text((EXAMPLES / "jobs_service.py").read_text())
    port = loopback.free_port()
    with serving(tmp_path, port) as (process, user):
        job = user.post("/jobs", params={"upto": 1000}).json()
        wait_until(lambda: user.get(f"/jobs/{job}").json()["state"] == "Running", "the job to begin")
        process.send_signal(signal.SIGKILL)
    with serving(tmp_path, port) as (process, user):
        answer: dict[str, Any] = {}

        def has_ended() -> bool:
            answer.update(user.get(f"/jobs/{job}").json())
            return answer["state"] == "Completed"

        wait_until(has_ended, "the job to go on to its end", 60)
        assert answer["value"] == sum(number * number for number in range(1000))
        assert user.get("/jobs/00000000-0000-0000-0000-000000000000").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
    assert History(tmp_path / "jobs.db").run(job).state == "Crashed"


@pytest.mark.leaks("fsspec keeps one thread for all its filesystems")
def test_the_pipeline_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """Its program kills itself once, in the middle of its map."""
    program = (EXAMPLES / "stages.py").read_text()
    cut = """    import os
    from pathlib import Path
    if page.endswith("page 7") and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), 9)
    with Path("executed").open("a") as file:
        file.write(f"{page}\\n")
    return len(page.split())
"""
    (tmp_path / "stages.py").write_text(program.replace("    return len(page.split())\n", cut))
    with s3server.serve(tmp_path) as server:
        options = server.storage_options
        environment = {
            **os.environ,
            "PENSTOCK_HOME": str(tmp_path / "home"),
            "PENSTOCK_HISTORY": str(tmp_path / "history.db"),
            "PENSTOCK_RESULTS": server.url("stages"),
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": options["key"],
            "AWS_SECRET_ACCESS_KEY": options["secret"],
        }

        def penstock(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "penstock", *arguments]
            return subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
            )

        assert penstock("run", "stages.py:report", "-p", "day=2026-11-21").returncode == -signal.SIGKILL
        history = History(tmp_path / "history.db")
        [killed] = history.runs(RunQuery(states=["crashed"]))
        stored = [run for run in history.inside(killed.id) if run.type == "COMPLETED"]
        resumed = penstock("runs", "resume", killed.name)
        assert resumed.returncode == 0, resumed.stderr
        newest = history.runs()[0]
        cached = [run for run in history.inside(newest.id) if run.cached]
        assert "pages" in {run.definition for run in cached}
        # The value is there before COMPLETED is, so the kill may have come between the two.
        assert {(run.definition, run.position) for run in stored} <= {(run.definition, run.position) for run in cached}
        assert newest.result is not None
        shown = penstock("results", "show", newest.result["key"], "--value")
        assert "value       60" in shown.stdout, shown.stderr
    assert len((tmp_path / "executed").read_text().splitlines()) >= 20


def test_the_sweep_is_the_same_on_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "sweep"}
    exec(compile((EXAMPLES / "sweep.py").read_text(), "sweep.py", "exec"), names)
    rates = [number / 50 for number in range(1, 202)]
    on_threads = names["sweep"](rates)
    assert len(on_threads) == 200
    assert names["sweep"].with_options(task_runner=ProcessPoolTaskRunner(max_workers=2))(rates) == on_threads
