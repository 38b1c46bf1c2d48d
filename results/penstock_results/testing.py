"""The conformance suite for result stores.

To check a store, derive from `ResultStoreTests` in a pytest module and provide the fixture `open_store`. What the
suite finds out about stored bytes it finds out behind the store's back, through fsspec.
"""

# ruff: noqa: D102 (the names of the tests say what they check)

from __future__ import annotations

import asyncio  # noqa: TID251 (tests drive the asynchronous face)
import importlib
import pickle
import threading  # noqa: TID251 (tests read while others write)
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from penstock.errors import (
    ConfigurationError,
    ResultCorrupt,
    ResultForbidden,
    ResultMissing,
    SerializationError,
)
from penstock_results.naming import blob_name
from penstock_results.store import ResultStore

__all__ = ("BackDoor", "OpenStore", "ResultStoreTests")

OpenStore: TypeAlias = Callable[..., ResultStore]
"""Opens the store under test; keyword arguments are those of `ResultStore`. All calls give the same place."""


class BackDoor:
    """The bytes of a store, reached through fsspec.

    Args:
        store: The store.
        options: What the fsspec filesystem takes.
    """

    def __init__(self, store: ResultStore, options: dict[str, Any] | None = None) -> None:
        core = importlib.import_module("fsspec.core")
        self._fs, self._root = core.url_to_fs(store.url, **(options or {}))

    def names(self) -> list[str]:
        """Return the names of all files that lie in the store, its own and foreign ones."""
        self._fs.invalidate_cache()
        try:
            return sorted(path[len(self._root) + 1 :] for path in self._fs.find(self._root))
        except FileNotFoundError:
            return []

    def read(self, key: str) -> bytes:
        """Return the stored bytes of a result."""
        data: bytes = self._fs.cat_file(f"{self._root}/{blob_name(key)}")
        return data

    def write(self, key: str, data: bytes) -> None:
        """Put bytes in the place of a result."""
        self._fs.pipe_file(f"{self._root}/{blob_name(key)}", data)


class _Canary:
    """Sings when unpickled."""

    songs = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _sing, ()


def _sing() -> str:
    _Canary.songs += 1
    return "sung"


class ResultStoreTests:
    """What every result store must do. Each test takes `open_store` only, so that any harness can call it."""

    storage_options: dict[str, Any] | None = None
    """What `BackDoor` needs to reach the bytes."""

    def door(self, store: ResultStore) -> BackDoor:
        """Open the back door of a store."""
        return BackDoor(store, self.storage_options)

    def test_values_come_back_as_they_were(self, open_store: OpenStore) -> None:
        store = open_store()
        for value in _values():
            reference = store.write(value)
            for again in (store.read(reference), store.read(reference.key), reference.load()):
                assert type(again) is type(value)
                assert again == value

    def test_a_new_key_each_time(self, open_store: OpenStore) -> None:
        store = open_store()
        keys = {store.write(index).key for index in range(20)}
        assert len(keys) == 20
        assert store.keys() == sorted(keys)

    def test_the_latest_value_wins(self, open_store: OpenStore) -> None:
        store = open_store()
        for value in ("first", "second, and longer", "3"):
            store.write(value, "the/key")
            assert store.read("the/key") == value
        assert store.keys() == ["the/key"]
        assert len(self.door(store).names()) == 1

    def test_what_is_not_there_is_missing(self, open_store: OpenStore) -> None:
        store = open_store()
        for ask in (store.read, store.info, store.delete):
            _raises(ResultMissing, ask, "nothing/here")
        assert not store.exists("nothing/here")
        reference = store.write(1)
        assert store.exists(reference.key)
        store.delete(reference.key)
        _raises(ResultMissing, reference.load)
        assert self.door(store).names() == []

    def test_keys_that_could_lead_elsewhere_are_refused(self, open_store: OpenStore) -> None:
        store = open_store()
        for key in _BAD_KEYS:
            _raises(ConfigurationError, store.write, "value", key)
            for ask in (store.read, store.info, store.exists, store.delete):
                _raises(ConfigurationError, ask, key)
        assert self.door(store).names() == []

    def test_keys_are_listed_by_prefix(self, open_store: OpenStore) -> None:
        store = open_store()
        for key in ("run-1/a", "run-1/b/c", "run-10/a", "a", "a/b"):
            store.write(key, key)
        self.door(store).write("run-1/foreign file", b"not ours")
        assert store.keys("run-1/") == ["run-1/a", "run-1/b/c"]
        assert store.keys("run-1") == ["run-1/a", "run-1/b/c", "run-10/a"]
        assert store.keys("a") == ["a", "a/b"]
        assert store.keys("b") == []
        assert store.delete_prefix("run-1/") == ["run-1/a", "run-1/b/c"]
        assert store.keys() == ["a", "a/b", "run-10/a"]

    def test_info_says_what_was_written_without_the_value(self, open_store: OpenStore) -> None:
        store = open_store()
        store.write(b"x" * 100_000, "k", provenance={"task": "load"}, expires=timedelta(days=1))
        blob = bytearray(self.door(store).read("k"))
        blob[5000:] = bytes(len(blob) - 5000)
        self.door(store).write("k", bytes(blob))
        info = store.info("k")
        assert (info.key, info.type, info.provenance, info.stored) == ("k", "bytes", {"task": "load"}, len(blob))
        assert info.expires is not None
        assert info.expires - info.created == timedelta(days=1).total_seconds()

    def test_a_head_larger_than_the_first_read(self, open_store: OpenStore) -> None:
        store = open_store()
        note = {"note": "n" * 50_000}
        store.write(1, "k", provenance=note)
        assert store.info("k").provenance == note
        assert store.read("k") == 1

    def test_an_expired_result_is_missing_and_gets_collected(self, open_store: OpenStore) -> None:
        store = open_store()
        store.write("stale", "old", expires=datetime.now(UTC) - timedelta(seconds=1))
        store.write("fresh", "new", expires=timedelta(hours=1))
        store.write("for ever", "always")
        for ask in (store.read, store.info):
            _raises(ResultMissing, ask, "old")
        assert not store.exists("old")
        assert store.gc(dry_run=True).expired == ("old",)
        assert store.keys() == ["always", "new", "old"]
        assert store.gc().expired == ("old",)
        assert store.keys() == ["always", "new"]

    def test_the_newest_results_are_kept(self, open_store: OpenStore) -> None:
        store = open_store()
        for index in range(5):
            store.write(index, f"run/{index}")
        store.write("other", "other")
        assert store.keep_last(2, prefix="run/", dry_run=True) == ["run/0", "run/1", "run/2"]
        assert store.keep_last(2, prefix="run/") == ["run/0", "run/1", "run/2"]
        assert store.keys() == ["other", "run/3", "run/4"]

    def test_damage_is_never_decoded(self, open_store: OpenStore) -> None:
        store, door = open_store(), self.door(open_store())
        store.write([_Canary(), b"x" * 100_000], "k", serializer="pickle")
        whole = door.read("k")
        store.read("k")
        before = _Canary.songs
        assert before > 0
        for damaged in _damages(whole):
            door.write("k", damaged)
            _raises(ResultCorrupt, store.read, "k")
        assert _Canary.songs == before
        door.write("k", whole)
        assert store.read("k")[0] == "sung"

    def test_swapped_results_are_refused(self, open_store: OpenStore) -> None:
        store, door = open_store(), self.door(open_store())
        store.write("a", "a")
        store.write("b", "b")
        door.write("a", door.read("b"))
        _raises(ResultCorrupt, store.read, "a")
        _raises(ResultCorrupt, store.info, "a")
        assert store.read("b") == "b"

    def test_a_reference_is_small_and_holds_to_its_value(self, open_store: OpenStore) -> None:
        store = open_store()
        reference = store.write(b"x" * 1_000_000, "k")
        packed = pickle.dumps(reference)
        assert len(packed) < 2048
        assert reference.size >= 1_000_000
        again = pickle.loads(packed)
        assert again == reference
        assert again.load() == b"x" * 1_000_000
        store.write(b"x" * 1_000_000, "k")
        assert again.load() == b"x" * 1_000_000
        store.write("something else", "k")
        _raises(ResultCorrupt, again.load)

    def test_a_failed_write_leaves_what_was_there(self, open_store: OpenStore) -> None:
        store = open_store()
        store.write("old", "k")
        names = self.door(store).names()
        bad = [b"x" * 20_000_000, threading.Lock()]
        for key in ("k", "never/was"):
            _raises(SerializationError, store.write, bad, key)
        assert store.read("k") == "old"
        assert self.door(store).names() == names
        assert store.gc(orphan_age=timedelta(seconds=-60), dry_run=True).orphans == ()

    def test_readers_see_whole_values_while_they_change(self, open_store: OpenStore) -> None:
        store = open_store()
        values = [letter * 3_000_000 for letter in (b"a", b"b")]
        store.write(values[0], "k")
        done = threading.Event()
        seen: list[Any] = []

        def read() -> None:
            while not done.is_set():
                try:
                    seen.append(store.read("k") in values)
                except Exception as error:
                    seen.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for index in range(30):
            store.write(values[index % 2], "k")
        done.set()
        for reader in readers:
            reader.join()
        assert seen
        assert all(one is True for one in seen), [one for one in seen if one is not True][:3]

    def test_large_values_go_through_in_pieces(self, open_store: OpenStore) -> None:
        large = bytes(range(256)) * (40 << 12) + b"end"
        for compression in (None, "zstd"):
            store = open_store(compression=compression)
            reference = store.write(large, "large")
            assert reference.size >= len(large)
            assert store.read(reference) == large
            stored = self.door(store).read("large")
            assert (large in stored) is (compression is None)
            assert (len(stored) < len(large) // 2) is (compression is not None)

    def test_large_values_are_stored_as_they_are(self, open_store: OpenStore) -> None:
        store = open_store()
        data = bytes(range(256)) * 1000
        for serializer in ("json", "pickle"):
            store.write(data, "k", serializer=serializer)
            assert data in self.door(store).read("k")

    def test_signed_results(self, open_store: OpenStore) -> None:
        signed, other, plain = open_store(signing_key=b"k" * 32), open_store(signing_key=b"o" * 32), open_store()
        reference = signed.write([_Canary()], "k", serializer="pickle")
        assert signed.read(reference) == ["sung"]
        before = _Canary.songs
        for store in (other, plain):
            _raises(ResultForbidden, store.read, "k")
        plain.write([_Canary()], "forged", serializer="pickle")
        _raises(ResultForbidden, signed.read, "forged")
        for damaged in _damages(self.door(signed).read("k")):
            self.door(signed).write("k", damaged)
            _raises((ResultCorrupt, ResultForbidden), signed.read, "k")
        assert _Canary.songs == before

    def test_without_pickle(self, open_store: OpenStore) -> None:
        safe = open_store(allow_pickle=False)
        open_store().write([_Canary()], "k", serializer="pickle")
        before = _Canary.songs
        _raises(ResultForbidden, safe.read, "k")
        _raises(ResultForbidden, lambda: safe.write(1, serializer="pickle"))
        _raises(SerializationError, safe.write, _Canary())
        assert _Canary.songs == before
        value = {"__class__": "os.system", "t": (1, {2})}
        assert safe.read(safe.write(value)) == value

    def test_a_store_travels_as_its_description(self, open_store: OpenStore) -> None:
        store = open_store(compression="zstd", signing_key=b"s" * 32)
        reference = store.write("here")
        packed = pickle.dumps(store)
        again = pickle.loads(packed)
        assert again == store
        assert again.read(reference.key) == "here"
        assert b"s" * 32 not in repr(store).encode()

    def test_coroutines_have_the_same_store(self, open_store: OpenStore) -> None:
        store = open_store()

        async def main() -> None:
            reference = await store.aio.write("value", "k")
            assert await store.aio.read(reference) == "value"
            assert await store.aio.exists("k")
            assert (await store.aio.info("k")).key == "k"
            assert await store.aio.keys() == ["k"]
            await store.aio.delete("k")
            assert not await store.aio.exists("k")

        asyncio.run(main())


def _raises(errors: type[Exception] | tuple[type[Exception], ...], call: Callable[..., Any], *args: Any) -> None:
    try:
        result = call(*args)
    except errors:
        return
    raise AssertionError(f"no {errors} from {call} with {args}, but {result!r:.200}")


def _values() -> list[Any]:
    return [
        None,
        True,
        0,
        2**80,
        -1.5,
        float("inf"),
        "",
        "text \u00e9 \U0001f600",
        b"",
        b"bytes",
        b"x" * 200_000,
        [],
        {},
        [1, "two", None, [3.0, {"four": (5,)}]],
        {"$type": "set", "value": [1]},
        {"__class__": "os.system"},
        {1: "one", (2, 3): {4, 5}},
        set("abc"),
        datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
        timedelta(days=3, microseconds=7),
        list(range(100_000)),
    ]


def _damages(whole: bytes) -> Iterator[bytes]:
    """Go through single flipped bits, cuts, additions and holes, all over the blob."""
    for position in {
        *range(0, 64, 3),
        *range(64, len(whole), len(whole) // 40),
        *range(len(whole) - 300, len(whole), 7),
    }:
        yield whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :]
    for length in (0, 1, 19, 20, 100, len(whole) // 2, len(whole) - 1):
        yield whole[:length]
    yield whole + b"\0"
    yield whole + whole
    yield bytes(len(whole))


_BAD_KEYS = (
    "",
    ".",
    "..",
    "../up",
    "a/../b",
    "a/..",
    "/etc/passwd",
    "a//b",
    "a/",
    ".hidden",
    "a/.tmp",
    "a\\b",
    "..\\up",
    "a\0b",
    "a b",
    "a:b",
    "a%2e%2e",
    "\u2025/a",
    "a\n",
    "x" * 129,
    "/".join("a" * 17),
    "a.result/b",
    "~",
    "$HOME",
    "s3://other/bucket",
)
