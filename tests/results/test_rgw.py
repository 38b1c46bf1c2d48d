"""Results and claims on what does all that S3 promises: the Ceph RADOS Gateway. tests/support/rgw.py starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import flight_callers
import pytest
import rgw as gateways
import s3fs
from flight_callers import Folder, fetch, in_threads

from penstock.results import ResultStore
from penstock_results.claims import FsspecClaims
from penstock_results.locks import SingleFlight
from penstock_results.testing import OpenStore, ResultStoreTests

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

PART = 16 << 20
ROUNDS = 20

# Begins an upload, says so once its first part must have arrived, and never completes it.
WRITER = """
import json, sys
from penstock.results import ResultStore

store = ResultStore(sys.argv[1], storage_options=json.loads(sys.argv[2]))
sink = store.blobs.create("k.result")
sink.write(bytes(6 * (16 << 20)))
print("uploading", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(rgw: gateways.Gateway, tmp_path: Path) -> ResultStore:
    return ResultStore(rgw.url(tmp_path.name), storage_options=rgw.storage_options)


@pytest.fixture
def bucket(rgw: gateways.Gateway) -> Any:
    """The gateway by a client that shares nothing with the store."""
    return s3fs.S3FileSystem(**rgw.storage_options, skip_instance_cache=True)


class TestResultStore(ResultStoreTests):
    @pytest.fixture
    def open_store(self, rgw: gateways.Gateway, tmp_path: Path) -> OpenStore:
        self.storage_options = rgw.storage_options

        def open_store(**settings: Any) -> ResultStore:
            return ResultStore(rgw.url(tmp_path.name), storage_options=rgw.storage_options, **settings)

        return open_store


def test_parts_are_invisible_until_the_upload_is_complete(store: ResultStore, bucket: Any) -> None:
    place = store.url.removeprefix("s3://")
    sink = store.blobs.create("k.result")
    sink.write(bytes(6 * PART))
    assert len(_uploads(store)) == 1
    assert (store.keys(), bucket.find(place)) == ([], [])
    sink.commit()
    assert (store.keys(), _uploads(store)) == (["k"], [])
    assert bucket.info(f"{place}/k.result")["size"] == 6 * PART


def test_what_is_larger_than_a_part_goes_up_in_parts(store: ResultStore, bucket: Any) -> None:
    large, little = b"x" * (2 * PART), b"x" * 1000
    store.write(large, "large")
    store.write(little, "little")
    tags = [bucket.info(f"{store.url}/{key}.result")["ETag"].strip('"') for key in ("large", "little")]
    assert tags[0].endswith("-3")  # two full parts, and what the container adds
    assert "-" not in tags[1]
    assert store.read("large") == large


def test_what_a_killed_writer_uploaded_is_swept(store: ResultStore, rgw: gateways.Gateway) -> None:
    command = [sys.executable, "-c", WRITER, store.url, json.dumps(rgw.storage_options)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "uploading\n"
        writer.kill()
    (orphan,) = _uploads(store)
    assert store.keys() == []
    assert store.gc().orphans == ()
    assert store.gc(orphan_age=timedelta(seconds=-60)).orphans == (orphan,)
    assert _uploads(store) == []


def test_threads_with_nothing_in_common_but_the_bucket_run_it_once(bucket: Any, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    claims = FsspecClaims(bucket, f"bucket/{tmp_path.name}")
    for number in range(ROUNDS):
        key = f"key{number}"
        values = in_threads(8, lambda key=key: fetch(SingleFlight(claims), folder, key, lambda: "made"))
        assert values == ["made"] * 8
        assert len(folder.executions(key)) == 1
        assert claims.names(key) == []


def test_four_processes_run_it_once_and_once_more_if_the_owner_is_killed(rgw: gateways.Gateway, tmp_path: Path) -> None:
    claims = json.dumps({"root": f"bucket/{tmp_path.name}", "options": rgw.storage_options})
    command = [sys.executable, flight_callers.__file__, str(tmp_path), str(ROUNDS), claims]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_environment()).stdout
    ended = [json.loads(line) for line in printed.splitlines()]
    assert ended == [[0, 0, 0, 0], [-9, 0, 0, 0]] * (ROUNDS // 2)
    executions = [len(Folder(tmp_path).executions(f"key{number}")) for number in range(ROUNDS)]
    assert executions == [1, 2] * (ROUNDS // 2)


def _uploads(store: ResultStore) -> list[str]:
    return list(store.blobs.orphans(time.time() + 60))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
