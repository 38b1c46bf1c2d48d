"""What only an object store can get wrong: replaced objects, dead servers, uploads that nobody completed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import s3server
from networks import Network, network

from penstock.errors import ResultError
from penstock.results import ResultStore

LARGE = 20_000_000


@pytest.fixture
def store(s3: s3server.S3Server, tmp_path: Path) -> ResultStore:
    return ResultStore(s3.url(tmp_path.name), storage_options=s3.storage_options)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[s3server.S3Server]:
    """A server that the test may kill."""
    with s3server.serve(tmp_path) as server:
        yield server


@pytest.fixture
def broken(s3: s3server.S3Server) -> Iterator[Network]:
    """The way to the server, which the test may cut."""
    with network(int(s3.endpoint.rpartition(":")[2])) as way:
        yield way


@pytest.fixture
def by_way_of(s3: s3server.S3Server, broken: Network, tmp_path: Path) -> ResultStore:
    """The store at the other end of it."""
    options = {**s3.storage_options, "client_kwargs": {"endpoint_url": broken.url(s3.endpoint)}}
    return ResultStore(s3.url(tmp_path.name), storage_options=options)


def _uploads(store: ResultStore) -> list[str]:
    return list(store.blobs.orphans(time.time() + 60))


def test_a_large_object_replaced_while_it_is_read(store: ResultStore) -> None:
    values = [bytes([number]) * LARGE for number in range(2)]
    store.write(values[0], "k")
    errors: list[BaseException] = []
    reads = 0

    def write() -> None:
        try:
            for number in range(4):
                store.write(values[number % 2], "k")
        except BaseException as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive() or not reads:
        assert store.read("k") in values
        reads += 1
    writer.join()
    assert errors == []


def test_an_upload_that_fails_is_aborted(store: ResultStore) -> None:
    with pytest.raises(Exception, match="cannot pickle"):
        store.write([b"x" * LARGE, threading.Lock()], "k")
    assert _uploads(store) == []
    assert store.keys() == []


def test_what_a_dead_writer_left_is_swept(store: ResultStore) -> None:
    sink = store.blobs.create("k.result")
    sink.write(bytes(LARGE))
    assert store.keys() == []
    assert store.gc(dry_run=True).orphans == ()
    (orphan,) = store.gc(orphan_age=timedelta(seconds=-60), dry_run=True).orphans
    assert orphan.startswith("k.result?uploadId=")
    assert store.gc(orphan_age=timedelta(seconds=-60)).orphans == (orphan,)
    assert _uploads(store) == []
    sink.abort()


def test_a_server_that_dies_is_an_error_within_seconds(mortal: s3server.S3Server) -> None:
    store = ResultStore(mortal.url("results"), storage_options=mortal.storage_options)
    reference = store.write("value", "k")
    os.kill(mortal.process.pid, signal.SIGKILL)
    mortal.process.wait()
    with ThreadPoolExecutor(2) as pool:
        for asked in (pool.submit(reference.load), pool.submit(store.write, b"x" * LARGE, "k")):
            with pytest.raises(ResultError, match=r"s3://bucket/results"):
                asked.result(60)


@pytest.mark.parametrize("cut", [0, 2, 20])
@pytest.mark.parametrize("size", [100, 3_000_000, LARGE])
def test_an_answer_that_breaks_off_is_asked_for_again(
    broken: Network, by_way_of: ResultStore, size: int, cut: int
) -> None:
    """Pieces of up to 64 KB come through, and then the connection is gone."""
    by_way_of.write(b"x" * size, "k")
    broken.cut_answer = cut
    assert by_way_of.read("k") == b"x" * size
    broken.cut_answer = cut
    assert by_way_of.info("k").stored >= size


def test_an_answer_that_breaks_off_each_time_is_an_error(broken: Network, by_way_of: ResultStore) -> None:
    by_way_of.write(b"x" * LARGE, "k")

    def cut_again(data: bytes) -> bytes:
        broken.cut_answer = 0
        return data

    broken.rewrite = cut_again
    with pytest.raises(ResultError, match=r"get_object on s3://bucket broke off 2 times: .*payload is not completed"):
        by_way_of.read("k")


@pytest.mark.parametrize("cut", range(4))
def test_a_request_that_breaks_off_is_sent_again(broken: Network, by_way_of: ResultStore, cut: int) -> None:
    broken.cut_request = cut
    by_way_of.write(b"x" * LARGE, "k")
    assert broken.cut_request is None
    assert by_way_of.read("k") == b"x" * LARGE


def test_a_server_that_never_answers_is_an_error() -> None:
    """Also for an upload, of which the client would by default ask whether it may send, and wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {
            "key": "k",
            "secret": "s",
            "config_kwargs": {"read_timeout": 0.1, "retries": {"total_max_attempts": 1}},
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}"},
        }
        store = ResultStore("s3://bucket/results", storage_options=options)
        for ask in (lambda: store.write(1, "k"), lambda: store.read("k")):
            with pytest.raises(ResultError, match="Read timeout"):
                ask()


def test_a_wrong_secret_is_an_error_that_does_not_show_it(s3: s3server.S3Server) -> None:
    options: dict[str, Any] = {**s3.storage_options, "secret": "wrong-secret"}
    store = ResultStore(s3.url("results"), storage_options=options)
    for ask in (lambda: store.write(1), lambda: store.read("k")):
        with pytest.raises(ResultError) as caught:
            ask()
        assert "wrong-secret" not in f"{caught.value} {store!r}"


def test_a_bucket_that_is_not_there(s3: s3server.S3Server) -> None:
    store = ResultStore("s3://no-such-bucket/results", storage_options=s3.storage_options)
    with pytest.raises(ResultError, match="bucket"):
        store.write(1)
    assert not store.exists("k")
