"""The shipped conformance suite, over every kind of place; and proof that it catches stores that are broken."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from penstock.results import ResultStore
from penstock_results import formats, local, store
from penstock_results.testing import ResultStoreTests


class TestResultStore(ResultStoreTests):
    @pytest.fixture(autouse=True)
    def _door_key(self, place: tuple[str, dict[str, Any]]) -> None:
        self.storage_options = place[1]


def _write_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way fsspec writes local files: the target is opened, emptied and filled."""

    def create(self: local.LocalBlobs, name: str) -> Any:
        path = Path(self._root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _InPlace(path)

    monkeypatch.setattr(local.LocalBlobs, "create", create)


class _InPlace:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: Any) -> None:
        self._file.write(data)

    def commit(self) -> None:
        self._file.close()

    abort = commit


def _check_no_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats._Frames, "check", lambda self, start, end: None)


def _check_no_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_seal", lambda opening, table: bytes(32))


def _bind_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = formats._head
    monkeypatch.setattr(
        formats, "_head", lambda packed, key: whole(packed, re.search(rb'"key":"([^"]+)"', packed)[1].decode())
    )  # type: ignore[index]


def _accept_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "check_key", lambda key: key)


def _leave_temporaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local._FileSink, "abort", lambda sink: sink._closing())


def _never_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResultStore, "_expired", lambda self, head: False)


def _trust_any_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_check_signature", lambda *args: None)


def _allow_pickle_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "refuse_code", lambda *args, **kwargs: None)


def _forget_checksums_of_references(monkeypatch: pytest.MonkeyPatch) -> None:
    read = ResultStore.read
    monkeypatch.setattr(ResultStore, "read", lambda self, key: read(self, getattr(key, "key", key)))


_BREAKAGES: list[Callable[[pytest.MonkeyPatch], None]] = [
    _write_in_place,
    _check_no_chunks,
    _check_no_seal,
    _bind_no_key,
    _accept_any_key,
    _leave_temporaries,
    _never_expire,
    _trust_any_signature,
    _allow_pickle_always,
    _forget_checksums_of_references,
]


@pytest.mark.parametrize("breakage", _BREAKAGES)
def test_the_suite_catches_a_broken_store(
    breakage: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage(monkeypatch)
    assert next(_failures(tmp_path), None) is not None


def test_the_harness_above_passes_a_sound_store(tmp_path: Path) -> None:
    assert list(_failures(tmp_path)) == []


def _failures(folder: Path) -> Iterator[str]:
    """Run the suite against local stores and give the names of the tests that fail."""
    suite = ResultStoreTests()
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if name.startswith("test_"):
            url = os.fspath(folder / name)
            try:
                test(lambda url=url, **settings: ResultStore(url, **settings))
            except Exception:
                yield name
            with suppress(FileNotFoundError):
                os.rename(url, f"{url}.done")
