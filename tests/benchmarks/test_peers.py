"""The peers are measured side by side, and one that cannot be is a line of the table."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = sorted((FOLDER / "peers").glob("with_*.py"))

WORKS = """
from contextlib import contextmanager
import work

@contextmanager
def called(function):
    yield lambda items: work.timed(lambda: [function(item) for item in items])

work.program(["pytest"], {"called": called}, fan_outs=["called"])
"""

# The second way is wrong, the third never ends, and has a child of its own.
FALLS_SHORT = """
import subprocess, sys, time
from contextlib import contextmanager
import work

@contextmanager
def called(function):
    yield lambda items: work.timed(lambda: [function(item) for item in items])

@contextmanager
def wrong(function):
    yield lambda items: (1.0, [0 for item in items])

@contextmanager
def hangs(function):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    with open({pid!r}, "w") as file:
        file.write(str(child.pid))
    yield lambda items: work.timed(lambda: time.sleep(1000))

work.program(["pytest"], {{"called": called, "threads": wrong, "async": hangs}}, fan_outs=["threads"])
"""

CANNOT_BE_INSTALLED = """
# /// script
# dependencies = ["nothing @ file:///nowhere/nothing-1.0.tar.gz"]
# ///
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The benchmarks without their peers."""
    folder = tmp_path / "benchmarks"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", "with_*", "measured"))
    return folder


def test_what_falls_short_is_said_and_stops_nobody_else(copy: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    programs = {"bare": WORKS, "parsl": FALLS_SHORT.format(pid=str(pid)), "dbos": CANNOT_BE_INSTALLED}
    for name, program in programs.items():
        (copy / "peers" / f"with_{name}.py").write_text(program)
    command = [sys.executable, str(copy / "side_by_side.py"), "--small", "dbos", "parsl", "bare"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    overhead, failed = printed[: printed.index("Seconds of a fan-out")], printed[printed.index("What failed") :]
    assert re.search(r"nothing in between.*[\d.]+ \([\d.]+ - [\d.]+\)", overhead)
    assert re.search(r"Parsl .*\d.* not finished .*failed", overhead)
    said = re.sub(r"[│\s]+", " ", failed)  # as lines, whose cells are folded
    assert re.search(r"DBOS all [^─]*nowhere", said)
    assert re.search(r"Parsl overhead threads [^─]*10 values came back", said), said
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_every_program_is_a_peer_that_can_be_named() -> None:
    command = [sys.executable, str(FOLDER / "side_by_side.py"), "nonsense"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    there_are = ended.stderr[ended.stderr.index("there are ") :].removeprefix("there are ")
    assert sorted(name.strip() for name in there_are.split(",")) == [
        program.stem.removeprefix("with_") for program in PROGRAMS
    ]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_peers_versions_are_pinned_and_its_use_is_described(program: Path) -> None:
    environments = runpy.run_path(str(FOLDER / "environments.py"))
    wanted = environments["requirements"](program)
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", requirement) for requirement in wanted), wanted
    assert bool(wanted) == (program.stem not in ("with_bare", "with_penstock"))
    assert '"""' in program.read_text()


def test_python_may_keep_what_it_compiles_where_a_start_is_measured(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint(sys.dont_write_bytecode)\n")
    watch = (
        "import sys, pathlib, watched; print(watched.run([sys.executable, sys.argv[1]], pathlib.Path(), 30).last_words)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, "-c", watch, str(program)]
    said = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert said.strip() == "False"
