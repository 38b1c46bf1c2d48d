"""Checksums: the fast ones where their package is installed, the standard library's elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.errors import MissingExtra, ResultCorrupt
from penstock.results import ResultStore
from penstock_results import digests

VALUE = b"x" * 3_000_000


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@contextmanager
def without_xxhash() -> Generator[None]:
    """Like a process in which the package is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "xxhash", None)
        _forget_what_is_installed()
        yield
    _forget_what_is_installed()


def _forget_what_is_installed() -> None:
    digests._xxhash.cache_clear()
    digests.fastest.cache_clear()


def _blob(store: ResultStore) -> Path:
    (path,) = Path(store.url.removeprefix("file://")).rglob("*.result")
    return path


def _flip_last_byte_of_value(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[blob.rindex(b"xxxx")] ^= 1
    path.write_bytes(blob)


def test_xxh3_is_used_where_it_is_installed(store: ResultStore) -> None:
    store.write(VALUE, "k")
    assert b'"digest":"xxh3"' in _blob(store).read_bytes()[:4096]
    assert store.read("k") == VALUE
    _flip_last_byte_of_value(_blob(store))
    with pytest.raises(ResultCorrupt, match="does not match its checksum"):
        store.read("k")


def test_crc32_is_used_elsewhere_and_read_everywhere(store: ResultStore) -> None:
    with without_xxhash():
        store.write(VALUE, "k")
        assert b'"digest":"crc32"' in _blob(store).read_bytes()[:4096]
        assert store.read("k") == VALUE
    assert store.read("k") == VALUE
    _flip_last_byte_of_value(_blob(store))
    with pytest.raises(ResultCorrupt, match="does not match its checksum"):
        store.read("k")


def test_where_the_package_is_missing_the_error_names_it(store: ResultStore) -> None:
    store.write(VALUE, "k")
    with without_xxhash():
        with pytest.raises(MissingExtra, match=r"penstock\[checksums\]"):
            store.read("k")
        assert store.info("k").type == "bytes"
    assert store.read("k") == VALUE
