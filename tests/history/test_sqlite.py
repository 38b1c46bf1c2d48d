"""The shipped suite over SQLite, and what only a file can do."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from sqlite_files import is_sound

from penstock.errors import HistoryError, HistoryWriteError
from penstock_history import faults
from penstock_history.database import Database, Writer
from penstock_history.records import RunQuery
from penstock_history.sqlite import filesystems
from penstock_history.sqlite.database import SQLite
from penstock_history.sqlite.schema import VERSION, check_version
from penstock_history.testing.probes import Companion, Story, reading, record_runs
from penstock_history.testing.suite import HistoryTests

OLD = Path(__file__).parent / "files"


class TestSQLite(HistoryTests):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Database:
        return SQLite(tmp_path / "history.db")

    def lose(self, database: Database, writer: Writer) -> None:
        Path(f"{database.url.removeprefix('sqlite:///')}.owners").unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def write_one(path: Path) -> UUID:
    """Record a flow run with a task run, as a process of its own would."""
    writer = SQLite(path).open_writer("fast")
    (root,) = record_runs(writer, 1, 1)
    writer.close()
    return root


# --- what is refused, and how ---


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("a poem\n" * 1000)
    path.chmod(0o600)
    for use in (
        lambda: SQLite(path).open_writer("fast"),
        lambda: SQLite(path).open_reader().runs(RunQuery()),
    ):
        with pytest.raises(HistoryError, match="file is not a database"):
            use()
    assert path.read_text().startswith("a poem")


def test_a_database_of_something_else_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE poems (line TEXT)")
    connection.close()
    path.chmod(0o600)
    with pytest.raises(HistoryError, match="not a history of Penstock's"):
        SQLite(path).open_writer("fast")
    with pytest.raises(HistoryError, match="not a history of Penstock's"):
        SQLite(path).open_reader().runs(RunQuery())


def test_a_history_from_the_future_is_refused_and_left_alone(path: Path) -> None:
    write_one(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    for use in (SQLite(path).migrate, lambda: SQLite(path).open_reader().runs(RunQuery())):
        with pytest.raises(HistoryError, match=f"version {VERSION + 1}, and this one knows {VERSION}"):
            use()
    assert path.read_bytes() == before


def test_a_network_file_system_is_refused_with_advice(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    folder = str(tmp_path).replace("-", r"\055")
    mounts.write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"90 22 0:50 / {folder} rw,relatime shared:9 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    with pytest.raises(HistoryError, match=r"network file system \(nfs4\).*local disk.*postgresql://"):
        SQLite(path).open_writer("fast")
    assert not path.exists()
    assert filesystems.network_kind(tmp_path.parent) is None


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    write_one(path)
    path.chmod(0o666)
    with pytest.raises(HistoryError, match=f"chmod go-w {path}"):
        SQLite(path).open_writer("fast")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"is a folder.*history\.db"):
        SQLite(tmp_path).open_writer("fast")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="could not be opened|cannot be opened"):
        SQLite(tmp_path / "file" / "history.db").open_writer("fast")


# --- who may look ---


def test_only_their_owner_reads_the_files(tmp_path: Path) -> None:
    path = tmp_path / "state" / "penstock" / "history.db"
    before = os.umask(0)
    try:
        writer = SQLite(path).open_writer("fast")
        record_runs(writer, 1, 1)
    finally:
        os.umask(before)
    names = {file.name for file in path.parent.iterdir()}
    assert names == {f"history.db{end}" for end in ("", "-wal", "-shm", ".lock", ".owners")}
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    writer.close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_history_in_a_folder_that_is_only_to_be_read_can_be_read(tmp_path: Path) -> None:
    with Companion(SQLite(tmp_path / "history.db")) as companion:
        (root,) = companion.do(record_runs, 1, 1)
        companion.kill()  # the log is still there, and nobody is left to bring it in
    path = shutil.copytree(tmp_path, Path("/tmp") / f"penstock-only-to-be-read-{os.getpid()}") / "history.db"
    try:
        for file in path.parent.iterdir():
            file.chmod(0o444)
        path.parent.chmod(0o555)
        child = os.fork()
        if child == 0:
            os._exit(_as_somebody_else(path, root))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        path.parent.chmod(0o755)
        shutil.rmtree(path.parent)


def _as_somebody_else(path: Path, root: UUID) -> int:
    """What a user does who may only read; the number says where it went wrong."""
    os.setuid(65534)
    with reading(SQLite(path)) as reader:
        run = reader.run(root)
        if run is None or run.type != "COMPLETED" or reader.is_alive(run.owner):
            return 2
    try:
        SQLite(path).open_writer("fast")
    except HistoryError as error:
        return 0 if "Permission denied" in str(error) else 3
    return 4


# --- forks ---


def test_a_forked_child_records_through_a_writer_of_its_own(path: Path) -> None:
    writer = SQLite(path).open_writer("fast")
    with reading(SQLite(path)) as reader:
        (before,) = record_runs(writer, 1, 2)
        assert reader.run(before)
        child = os.fork()
        if child == 0:
            os._exit(_in_the_child(path, writer))
        (meanwhile,) = record_runs(writer, 1, 2)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        (after,) = record_runs(writer, 1, 2)
        runs = reader.runs(RunQuery())
        assert {before, meanwhile, after} < {run.id for run in runs}
        assert len(runs) == 4
        assert list(writer.reap()) == []
        assert reader.is_alive(writer.owner.id)
    writer.close()
    assert is_sound(path)


def _in_the_child(path: Path, inherited: Writer) -> int:
    """What a forked child does; the number says where it went wrong."""
    try:
        record_runs(inherited, 1, 1)
    except HistoryError as error:
        if "forked child" not in str(error):
            return 2
    else:
        return 3
    inherited.close()
    own = SQLite(path).open_writer("fast")
    with reading(SQLite(path)) as reader:
        if not reader.is_alive(inherited.owner.id) or not reader.is_alive(own.owner.id):
            return 4
    record_runs(own, 1, 2)
    own.close()
    return 0


def test_a_child_does_not_keep_its_dead_parents_locks(path: Path) -> None:
    """A process forks while it has the history open, and is killed; its child lives on."""
    script = f"""
import os, signal
from pathlib import Path
from penstock_history.testing.probes import Story
from penstock_history.sqlite.database import SQLite
writer = SQLite(Path({str(path)!r})).open_writer("fast")
story = Story(writer)
run = story.begin()
story.write()
child = os.fork()
if child == 0:
    os.close(1)
    signal.pause()
print(child, run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    child, run = done.stdout.split()
    try:
        writer = SQLite(path).open_writer("fast")
        assert [str(root) for root in writer.reap()] == [run]
        writer.close()
    finally:
        os.kill(int(child), signal.SIGKILL)


# --- versions ---


def test_a_process_that_is_killed_in_a_migration_leaves_a_file_that_opens(tmp_path: Path) -> None:
    kills = 0
    while True:
        path = tmp_path / f"{kills}.db"
        child = os.fork()
        if child == 0:
            faults._name, faults._left = "history.migrate", kills + 1
            SQLite(path).migrate()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        with reading(SQLite(path)) as reader:
            assert reader.runs(RunQuery()) == []
        root = write_one(path)
        with reading(SQLite(path)) as reader:
            assert reader.run(root)
        assert is_sound(path)
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        connection.close()
        if status == 0:
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        kills += 1
    assert kills > 20


@pytest.mark.parametrize("statement", [1, 2, 3])
def test_a_file_that_somebody_makes_while_it_is_looked_at_is_a_history(path: Path, statement: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        seen: list[str] = []

        def look_on(sql: str) -> None:
            if sql.startswith("--"):
                return  # a part of the statement before, which holds a lock
            seen.append(sql)
            if len(seen) == statement:
                SQLite(path).migrate()

        connection.set_trace_callback(look_on)
        assert check_version(connection, str(path)) in (0, VERSION)
        connection.set_trace_callback(None)
        SQLite(path).migrate()
        assert check_version(connection, str(path)) == VERSION


@pytest.mark.parametrize("name", sorted(file.name for file in OLD.glob("v*.db")))
def test_a_file_of_every_version_opens(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shutil.copyfile(OLD / name, path)
    path.chmod(0o600)
    with reading(SQLite(path)) as reader:
        (root,) = reader.runs(RunQuery(roots_only=True))
        assert (root.name, root.type, root.tags, root.entrypoint) == (
            "amber-falcon",
            "FAILED",
            ("etl",),
            "flows.py:main",
        )
        runs = {run.name: run for run in reader.inside(root.id)}
        assert sorted(runs) == ["fetch-0", "fetch-1", "load-0"]
        assert runs["fetch-0"].result == {"url": "file:///x", "key": "k", "size": 5, "type": "int", "checksum": "c"}
        assert [state.name for state in reader.states(runs["fetch-1"].id)] == [
            "Pending", "Running", "AwaitingRetry", "Retrying", "Failed",
        ]  # fmt: skip
        assert [line.message for line in reader.logs(root.id)] == ["once", "twice"]
    write_one(path)
    with reading(SQLite(path)) as reader:
        assert len(reader.runs(RunQuery(roots_only=True))) == 2
    assert SQLite(path).migrate() == VERSION
    assert is_sound(path)


def test_the_kept_file_of_this_version_is_what_a_new_one_would_be(path: Path) -> None:
    """Fails when a step was changed that files out there have taken, and when a step was added and no file kept."""
    SQLite(path).migrate()
    shutil.copyfile(OLD / f"v{VERSION}.db", path.with_name("kept.db"))
    schemas: list[list[tuple[str, ...]]] = []
    for file in (path, path.with_name("kept.db")):
        connection = sqlite3.connect(file)
        schemas.append(connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall())
        connection.close()
    assert schemas[0] == schemas[1], "make a file with tests/history/files/make.py"


# --- the log beside the file ---


def test_the_log_is_brought_in_now_and_then(path: Path) -> None:
    writer = SQLite(path).open_writer("fast")
    log = Path(f"{path}-wal")
    sizes: list[int] = []
    for _ in range(40):
        story = Story(writer)
        for _ in range(10):
            story.done(message="x" * 100_000)
        story.write()
        sizes.append(log.stat().st_size)
    assert path.stat().st_size > 30_000_000
    assert max(sizes) < 20_000_000
    writer.close()
    assert not log.exists()


def test_a_file_that_was_removed_is_noticed(path: Path) -> None:
    writer = SQLite(path).open_writer("fast")
    for file in path.parent.glob("history.db*"):
        file.unlink()
    with pytest.raises(HistoryWriteError, match="was removed"):
        record_runs(writer, 1, 1)
    with pytest.raises(HistoryWriteError, match="was removed"):
        writer.close()
    assert write_one(path)
