"""A disk that is full or broken: one kind of error, nothing damaged, nothing lost, and then it goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from apsw_histories import use_apsw
from failing_disk import FailingDisk
from sqlite_files import is_sound

from penstock.errors import HistoryWriteError
from penstock_history.database import Durability, Writer
from penstock_history.records import RunQuery
from penstock_history.sqlite import file as sqlite_file
from penstock_history.sqlite.database import SQLite
from penstock_history.testing.probes import Story, reading

T = TypeVar("T")
DISK = FailingDisk("failing")
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # apsw tells every fault twice


class Persistent:
    """Does what fails once more, and remembers that it failed."""

    def __init__(self) -> None:
        self.errors: list[HistoryWriteError] = []

    def __call__(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except HistoryWriteError as error:
            self.errors.append(error)
            DISK.keeps_failing = False
            return work()


def work(path: Path, durability: Durability) -> tuple[list[str], list[HistoryWriteError]]:
    """Record, delete, compact, and leave, twice; give the runs that must be there, and the errors on the way."""
    again = Persistent()
    names: list[str] = []
    for session in range(2):
        writer = again(partial(SQLite(path).open_writer, durability))
        story = Story(writer)
        runs = []
        for number in range(6):
            run = again(partial(story.begin, name=f"{session}-{number}", tags=("t",)))
            for _ in range(5):
                story.done(inside=run, message="m" * 500)
            again(story.write)
            story.end(run)
            again(story.write)
            runs.append(run)
        again(partial(writer.delete, [runs.pop().id]))
        again(writer.compact)
        leave(writer, again)
        names += (run.name for run in runs)
    return names, again.errors


def leave(writer: Writer, again: Persistent) -> None:
    """Close a writer; if that fails, the next one to come says so."""
    try:
        writer.close()
    except HistoryWriteError as error:
        again.errors.append(error)
        DISK.keeps_failing = False


def fail_everywhere(every: int, keeps: bool, fault: str, durability: Durability, tmp_path: Path) -> None:
    """Let each thing that is done to the disk fail in turn, in a run of the whole work for each."""
    DISK.fault = fault
    at, kinds = 1, set[str]()
    while True:
        DISK.count, DISK.fails_at, DISK.keeps_failing = 0, at, keeps
        DISK.done.clear()
        path = tmp_path / str(at) / "history.db"
        names, errors = work(path, durability)
        DISK.fails_at = 0
        if not DISK.done:
            break
        kinds.add(DISK.done[0].split()[0])
        assert len(errors) <= 1, [str(error) for error in errors]
        assert all(str(path) in str(error) and error.__cause__ is not None for error in errors)
        with reading(SQLite(path)) as reader:
            runs = reader.runs(RunQuery(limit=None))
            assert sorted(run.name for run in runs) == names
            assert [len(list(reader.inside(run.id))) for run in runs] == [5] * len(runs)
        assert is_sound(path)
        at += every
    assert kinds >= {"write", "sync"}


@pytest.fixture
def _apsw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_LOG", 100_000)
    use_apsw(monkeypatch, DISK.name)


@pytest.mark.usefixtures("_apsw")
@pytest.mark.parametrize(("fault", "keeps"), [("full", True), ("broken", False)])
def test_a_failing_disk_damages_nothing(fault: str, keeps: bool, tmp_path: Path) -> None:
    fail_everywhere(37, keeps, fault, "full", tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_apsw")
@pytest.mark.parametrize("keeps", [False, True], ids=["once", "until it is noticed"])
@pytest.mark.parametrize(("fault", "durability"), [("full", "full"), ("broken", "full"), ("full", "fast")])
def test_a_disk_that_fails_at_any_point_damages_nothing(
    fault: str, keeps: bool, durability: Durability, tmp_path: Path
) -> None:
    fail_everywhere(1, keeps, fault, durability, tmp_path)


def fill(path: Path, make_room: Callable[[], object]) -> None:
    """Write until nothing more fits, make room, and go on; all that was written must be there."""
    writer = SQLite(path).open_writer("full")
    story, written = Story(writer), list[str]()
    with pytest.raises(HistoryWriteError, match=f"{path} could not be written: .*disk"):
        while True:
            run = story.done(message="m" * 5_000)
            story.write()
            written.append(run.name)
    make_room()
    story.write()
    with reading(SQLite(path)) as reader:
        assert {run.name for run in reader.runs(RunQuery(limit=None))} == {*written, run.name}
    writer.close()
    assert is_sound(path)
    assert len(written) > 10


def test_a_file_that_may_not_grow_goes_on_when_it_may(tmp_path: Path) -> None:
    """The system's own refusal, for the SQLite that Python has."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, most))
            fill(tmp_path / "history.db", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_disk_that_is_full_is_used_again_when_there_is_room(tmp_path: Path) -> None:
    """A file system of one megabyte, for the SQLite that Python has."""
    mount = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$@"', "sh"]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root and unshare")
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from penstock.errors import HistoryError
from penstock_history.sqlite.database import SQLite
from test_sqlite_failures import fill
ballast = Path({str(tmp_path)!r}) / "ballast"
ballast.write_bytes(bytes(400_000))
fill(Path({str(tmp_path)!r}) / "history.db", ballast.unlink)
try:
    ballast.write_bytes(bytes(2_000_000))
except OSError:
    pass
try:
    SQLite(Path({str(tmp_path)!r}) / "other" / "history.db").open_writer("fast")
except HistoryError as error:
    print("refused:", error)
ballast.unlink()
SQLite(Path({str(tmp_path)!r}) / "other" / "history.db").open_writer("fast").close()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [*mount, sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "refused: " in done.stdout
