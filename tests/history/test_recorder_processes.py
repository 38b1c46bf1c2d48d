"""The recorder in real processes: killed, stopped, blocked, forked, and not there at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from penstock import Engine, flow, task
from penstock.history import History, RunQuery, RunRecord
from penstock.testing import wait_until

WATCHDOG = 30.0
PROGRAM = str(Path(__file__).parents[1] / "support" / "recorded.py")


@contextmanager
def program(kind: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The program that records, until the end of the block."""
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    command = [sys.executable, PROGRAM, kind, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def heard(process: subprocess.Popen[str], word: str) -> None:
    """Wait until the program has said a word."""
    assert f"{word}\n" in iter(out(process).readline, ""), f"the program ended before it said {word!r}"


def let_on(process: subprocess.Popen[str]) -> None:
    """Let the program go on that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def out(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def reap(history: History) -> list[str]:
    """Do what the next process does that opens the history."""
    with closing(history.database.open_writer("fast")) as writer:
        return [str(root) for root in writer.reap()]


def root_of(history: History) -> RunRecord:
    return history.runs(RunQuery(roots_only=True, kind=None))[-1]


# --- kill -9 ---


def check_kill(kind: str, folder: Path, acks: int, pause: float) -> None:
    """Kill the program some time after so many acknowledgements; nothing of them is missing, nothing is RUNNING."""
    with program(kind, folder) as process:
        said = [out(process).readline() for _ in range(acks)]
        time.sleep(pause)  # to kill it at any moment of its work, and not at those at which it speaks
        process.kill()
        said += out(process).readlines()
    told = {line.strip() for line in said if line.endswith("\n")}
    assert len(told) >= acks
    history = History(folder / "history.db")
    (root,) = reap(history)
    assert reap(history) == []
    runs = list(history.inside(root_of(history).id))
    completed = {run.name for run in runs if run.type == "COMPLETED"}
    assert told <= completed, "acknowledged, and not in the history"
    assert completed <= set((folder / "effects").read_text().split())
    assert {run.type for run in runs} <= {"COMPLETED", "CRASHED"}
    crashed = history.run(root)
    assert crashed.type == "CRASHED"
    assert crashed.message is not None
    assert crashed.message.startswith("owner_lost")
    assert [state.sequence for state in history.states(root)] == [1, 2, 3]


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.chaos, pytest.mark.timeout(1200)])])
@pytest.mark.parametrize("kind", ["inline", "threads", "loop", "kept"])
def test_kill_9_loses_nothing_that_was_acknowledged(kind: str, kills: int, tmp_path: Path) -> None:
    chance = random.Random(kind)
    for number in range(kills):
        (tmp_path / str(number)).mkdir()
        check_kill(kind, tmp_path / str(number), chance.randrange(1, 200), chance.uniform(0, 0.1))


def test_a_saboteur_is_caught(tmp_path: Path) -> None:
    """The same check finds a recorder that acknowledges first."""
    wrong = tmp_path / "sitecustomize.py"
    wrong.write_text(
        "from penstock_history.recording.recorder import Recorder\nRecorder.comes_first = lambda *_: False\n"
    )
    path = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    with program("inline", tmp_path, PYTHONPATH=path) as process:
        said = [out(process).readline() for _ in range(200)]
        process.kill()
        said += out(process).readlines()
    history = History(tmp_path / "history.db")
    reap(history)
    completed = {run.name for root in history.runs() for run in history.inside(root.id) if run.type == "COMPLETED"}
    assert not {line.strip() for line in said if line.endswith("\n")} <= completed


# --- alive or dead ---


def test_a_killed_process_is_known_to_be_dead_at_once(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    with program("busy", tmp_path) as process:
        heard(process, "began")
        wait_until(lambda: bool(history.runs()) and root_of(history).type == "RUNNING", "the run to be recorded")
        assert reap(history) == []
        process.kill()
        process.wait(WATCHDOG)
        assert reap(history) == [str(root_of(history).id)]


@pytest.mark.parametrize("look", [lambda history, _: history.runs()[0], lambda history, run_id: history.run(run_id)])
def test_whoever_looks_next_sees_a_killed_process_crashed(look: Callable[..., RunRecord], tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    with program("busy", tmp_path) as process:
        heard(process, "began")
        wait_until(lambda: bool(history.runs()) and root_of(history).type == "RUNNING", "the run to be recorded")
        wanted = root_of(history).id
        assert look(history, wanted).type == "RUNNING"
        process.kill()
        process.wait(WATCHDOG)
        assert look(history, wanted).type == "CRASHED"


@pytest.mark.parametrize("kind", ["blocked", "stopped"])
def test_a_process_that_does_not_answer_is_not_dead(kind: str, tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    with program(kind, tmp_path) as process:
        heard(process, "began")
        wait_until(lambda: bool(history.runs()), "the run to be recorded")
        if kind == "stopped":
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
        else:
            let_on(process)
            heard(process, "holds the lock")
        for _ in range(50):
            assert reap(history) == []
        assert root_of(history).ended is None
        process.send_signal(signal.SIGCONT)
        let_on(process)
        heard(process, "ended")
        assert process.wait(WATCHDOG) == 0
    assert root_of(history).type == "COMPLETED"
    assert [state.name for state in history.states(root_of(history).id)] == ["Pending", "Running", "Completed"]
    assert [run.type for run in history.inside(root_of(history).id)] == ["COMPLETED"]


# --- the end of a program ---


@pytest.mark.parametrize(("kind", "code"), [("ends", 0), ("exits", 3), ("raises", 1)])
def test_a_script_records_by_default_and_writes_all_before_it_ends(kind: str, code: int, tmp_path: Path) -> None:
    with program(kind, tmp_path, PENSTOCK_HISTORY="", PYTEST_VERSION="") as process:
        assert process.wait(WATCHDOG) == code
    history = History(Path(os.environ["PENSTOCK_HOME"]) / "history.db")
    (root,) = history.runs()
    assert root.state == "Completed"
    assert [(run.name, run.state) for run in history.inside(root.id)] == [("step-1", "Completed")]
    assert reap(history) == []


def test_ctrl_c_is_recorded(tmp_path: Path) -> None:
    with program("interrupted", tmp_path, PENSTOCK_HISTORY=str(tmp_path / "history.db")) as process:
        assert process.wait(WATCHDOG) not in (0, -signal.SIGKILL)
    (root,) = History(tmp_path / "history.db").runs()
    assert (root.type, root.message) == ("CANCELLED", "interrupted (Ctrl-C)")


def test_a_program_that_vanishes_loses_no_more_than_nobody_was_told_of(tmp_path: Path) -> None:
    settings = {"PENSTOCK_HISTORY": str(tmp_path / "history.db"), "PENSTOCK_DURABILITY": "full"}
    with program("vanishes", tmp_path, **settings) as process:
        assert process.wait(WATCHDOG) == 0
    (root,) = History(tmp_path / "history.db").runs()
    assert root.type == "COMPLETED"
    assert [run.type for run in History(tmp_path / "history.db").inside(root.id)] == ["COMPLETED"]


def test_a_forked_child_records_its_own(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    with program("forking", tmp_path) as process:
        heard(process, "ended")
        assert process.wait(WATCHDOG) == 0
    runs = {run.definition: run for run in history.runs()}
    assert {name: run.state for name, run in runs.items()} == {"forking": "Completed", "child": "Completed"}
    assert runs["forking"].owner != runs["child"].owner
    assert [run.name for run in history.inside(runs["forking"].id)] == ["step-1", "step-2"]
    assert [run.name for run in history.inside(runs["child"].id)] == ["step-4"]
    assert (tmp_path / "effects").read_text().split() == ["step-1", "step-3", "step-4", "step-2"]


# --- nothing there ---

SILENT = """
import sys
import penstock
from penstock import flow, task, Engine
from penstock.runners import ThreadPoolTaskRunner
assert "sqlite3" not in sys.modules
assert not [name for name in sys.modules if name.startswith("penstock_history")]
assert flow(lambda: sum(task(lambda n: n, name="t").map(range(10)).result()), name="f")() == 45
with Engine(history=None):
    flow(lambda: task(lambda: 1, name="t")(), name="f")()
assert "sqlite3" not in sys.modules
assert not [name for name in sys.modules if name.startswith("penstock_history")]
assert "tomllib" not in sys.modules
import threading
assert "penstock-history" not in [thread.name for thread in threading.enumerate()]
"""


def test_without_a_history_nothing_of_it_is_imported_or_made(tmp_path: Path) -> None:
    environment = {**os.environ, "PENSTOCK_HISTORY": "none", "PENSTOCK_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", SILENT], check=True, env=environment, cwd=tmp_path)
    assert not (tmp_path / "home").exists()


def test_engines_leave_nothing_behind(tmp_path: Path) -> None:
    def use() -> None:
        with Engine(history=tmp_path / "history.db"):
            flow(lambda: task(lambda: 1, name="t").submit().result(), name="f")()

    use()  # the file of the owners stays open as long as the process lives
    before, threads = _descriptors(), set(threading.enumerate())
    for _ in range(5):
        use()
    assert _descriptors() == before
    assert set(threading.enumerate()) <= threads


def _descriptors() -> list[str]:
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(link) for link in links if os.path.lexists(link) and "history.db" in os.readlink(link))


FULL_DISK = """
import logging, resource, signal, sys, threading
from penstock import Engine, flow, task
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logging.basicConfig(level=logging.WARNING)
complained = threading.Event()

class Watch(logging.Handler):
    def emit(self, record):
        if "cannot be written" in record.getMessage():
            complained.set()

logging.getLogger().addHandler(Watch())

@task
def double(value):
    return 2 * value

with Engine(history=sys.argv[1]):
    assert flow(lambda: double(2), name="before")() == 4
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    assert flow(lambda: sum(double(value) for value in range(20_000)), name="main")() == 399_980_000
    assert complained.wait(60)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert flow(lambda: double(3), name="after")() == 6
"""


def test_a_full_disk_stops_no_run(tmp_path: Path) -> None:
    """A limit for files, which the system reports as it reports a full disk, halfway through a flow."""
    path = tmp_path / "history.db"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], check=True, capture_output=True, text=True)
    assert done.stderr.count("cannot be written") == 1
    history = History(path)
    assert {run.definition: run.state for run in history.runs()} == {
        "before": "Completed",
        "main": "Completed",
        "after": "Completed",
    }
    assert {run.state for root in history.runs() for run in history.inside(root.id)} == {"Completed"}
