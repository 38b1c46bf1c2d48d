"""What the local store leaves on disk, and what it refuses to follow."""

from __future__ import annotations

import os
import stat
import threading
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError, ResultError, ResultForbidden
from penstock.results import ResultStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_can_read_or_write(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        ResultStore(root).write(1, "a/b/c")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert modes == {
        root: 0o700,
        root / "a": 0o700,
        root / "a/b": 0o700,
        root / "a/b/c.result": 0o600,
    }


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(root: Path, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    for ask in (lambda: ResultStore(root).write(1), lambda: ResultStore(root).read("k")):
        with pytest.raises(ConfigurationError, match="chmod it to 0700"):
            ask()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("settings", [{"signing_key": b"k" * 32}, {"allow_pickle": False}])
def test_unless_nothing_from_there_can_run_code(root: Path, settings: dict[str, object]) -> None:
    root.mkdir()
    root.chmod(0o770)
    store = ResultStore(root, **settings)  # type: ignore[arg-type]
    assert store.read(store.write((1, 2))) == (1, 2)


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    store = ResultStore(root)
    store.write("inside", "real/k")
    (outside / "k.result").write_bytes((root / "real/k.result").read_bytes())
    (root / "folder").symlink_to(outside)
    (root / "leaf.result").symlink_to(outside / "k.result")
    for key in ("folder/k", "leaf"):
        with pytest.raises(ResultForbidden, match="symbolic link"):
            store.read(key)
    for ask in (lambda: store.write(1, "folder/new"), lambda: store.delete("folder/k")):
        with pytest.raises(ResultForbidden):
            ask()
    store.write("own file", "leaf")
    assert store.read("leaf") == "own file"
    assert [path.name for path in outside.iterdir()] == ["k.result"]
    assert store.keys() == ["leaf", "real/k"]


def test_a_folder_swapped_for_a_link_leads_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    aside = tmp_path / "aside"
    aside.mkdir()
    store = ResultStore(root)
    store.write(0, "run/first")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            with suppress(OSError):  # the writer makes the folder again, now and then between two of these
                os.rename(root / "run", aside / uuid.uuid4().hex)
                os.symlink(outside, root / "run")
                os.unlink(root / "run")

    attacker = threading.Thread(target=swap)
    attacker.start()
    refused = 0
    try:
        for index in range(500):
            try:
                store.write(index, f"run/{index}")
            except (ResultError, ResultForbidden):
                refused += 1
    finally:
        done.set()
        attacker.join()
    assert list(outside.iterdir()) == []
    assert refused < 500


def test_a_dead_writers_file_is_swept_when_it_is_old(root: Path) -> None:
    store = ResultStore(root)
    store.write(1, "run/k")
    for name in (".0123.tmp", "run/.4567.tmp"):
        (root / name).write_bytes(b"half")
    os.utime(root / ".0123.tmp", (1, 1))
    assert store.keys() == ["run/k"]
    assert store.gc(dry_run=True).orphans == (".0123.tmp",)
    assert store.gc().orphans == (".0123.tmp",)
    assert store.gc(orphan_age=timedelta(seconds=-60)).orphans == ("run/.4567.tmp",)
    assert sorted(path.name for path in root.rglob("*")) == ["k.result", "run"]


def test_empty_folders_go_with_their_last_result(root: Path) -> None:
    store = ResultStore(root)
    store.write(1, "run/task/a")
    store.write(2, "run/b")
    store.delete("run/task/a")
    assert [path.name for path in root.iterdir()] == ["run"]
    assert not (root / "run/task").exists()
    store.delete("run/b")
    assert list(root.iterdir()) == []


def test_making_and_removing_folders_do_not_meet(root: Path) -> None:
    store = ResultStore(root)
    errors: list[Exception] = []

    def churn(number: int) -> None:
        for _ in range(150):
            try:
                store.write(number, f"run/{number}")
                store.delete(f"run/{number}")
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_full_or_broken_disk_is_a_result_error(root: Path) -> None:
    root.parent.mkdir(exist_ok=True)
    root.write_text("not a folder")
    with pytest.raises(ResultError, match="could not be written to file://"):
        ResultStore(root).write(1)


def test_paths_and_file_urls_are_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ResultStore("results").write(1, "k")
    for url in (f"file://{tmp_path}/results", f"{tmp_path}/results/", "~/results", tmp_path / "results"):
        store = ResultStore(url)
        assert store.read("k") == 1
        assert store.url == f"file://{tmp_path}/results"
    with pytest.raises(ConfigurationError, match="three slashes"):
        ResultStore("file://results/here")
