"""Options, errors and the asynchronous face of the store; what holds for every place is in test_conformance.py."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import ConfigurationError, MissingExtra, ResultError, ResultForbidden
from penstock.ports import Reference
from penstock.results import AsyncResultStore, ResultReference, ResultStore
from penstock_results import compression


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compression": "gzip"}, r"use one of \['lz4', 'zstd'\]"),
        ({"signing_key": "short"}, "can be guessed"),
        ({"serializer": "nobody"}, "no serializer named 'nobody'"),
        ({"serializer": "pickle", "allow_pickle": False}, "pickle is off"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigurationError, ResultError, ResultForbidden), match=message):
        ResultStore(tmp_path, **settings)


def test_arguments_that_cannot_work_are_refused(store: ResultStore) -> None:
    with pytest.raises(ConfigurationError, match="no time zone"):
        store.write(1, expires=datetime(2030, 1, 1))
    with pytest.raises(ConfigurationError, match="what JSON cannot"):
        store.write(1, provenance={"object": object()})
    with pytest.raises(ConfigurationError, match="every result of the store"):
        store.delete_prefix("")
    with pytest.raises(ConfigurationError, match="0 or more"):
        store.keep_last(-1, prefix="a")
    assert store.keys() == []


def test_a_compression_that_is_not_installed_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(compression.importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[compression\]'"):
        ResultStore(tmp_path, compression="zstd")


def test_every_method_has_an_awaitable_twin_with_the_same_signature() -> None:
    methods = {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(ResultStore, inspect.isfunction)
        if not name.startswith("_")
    }
    twins = {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(AsyncResultStore, inspect.iscoroutinefunction)
    }
    assert twins == methods
    assert {"write", "read", "exists", "info", "delete", "keys", "gc", "keep_last", "delete_prefix"} <= set(twins)


async def test_the_loop_runs_on_while_a_value_is_written(store: ResultStore) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await store.aio.write(b"x" * 50_000_000, "k")
    ticking.cancel()
    assert ticks > 1


async def test_a_cancelled_write_is_whole_or_absent(store: ResultStore) -> None:
    value = b"x" * 20_000_000
    write = asyncio.ensure_future(store.aio.write(value, "k"))
    await asyncio.sleep(0)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    if store.exists("k"):
        assert store.read("k") == value
    assert not list(Path(store.url.removeprefix("file://")).rglob(".*.tmp"))


def test_a_reference_is_what_the_engine_expects(store: ResultStore) -> None:
    reference = store.write([1, 2, 3], "k")
    assert isinstance(reference, Reference)
    assert reference.describe() == {
        "url": store.url,
        "key": "k",
        "size": 7,
        "type": "list",
        "checksum": reference.checksum,
    }
    assert ResultReference(**reference.describe()).load() == [1, 2, 3]
    with pytest.raises(AttributeError):
        reference.key = "other"  # type: ignore[misc]


def test_a_reference_stays_good_whoever_writes_an_equal_value(store: ResultStore) -> None:
    """What the head says of the writer moves the value in the file, and is no part of it."""
    reference = store.write([1, 2, 3], "k", provenance={"run": "a"})
    again = store.write([1, 2, 3], "k", provenance={"run": "b" * 200})
    assert again == reference
    assert store.find(reference) == ([1, 2, 3], reference)
    other = store.write([1, 2, 4], "k", provenance={"run": "a"})
    assert other.checksum != reference.checksum


def test_secrets_are_neither_shown_nor_compared_away(tmp_path: Path) -> None:
    store = ResultStore("elsewhere://user:password@host/results?token=abc", signing_key=b"0123456789abcdef")
    for shown in (repr(store), str(store)):
        assert "password" not in shown
        assert "abc" not in shown.replace("results", "")
        assert "0123456789abcdef" not in shown
    assert store != ResultStore("elsewhere://user:password@host/results?token=abc")
    assert pickle.loads(pickle.dumps(store)) == store
    assert len({store, pickle.loads(pickle.dumps(store))}) == 1
