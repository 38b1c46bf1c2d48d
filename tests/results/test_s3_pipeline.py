"""A flow over a bucket, killed in the middle of its uploads and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import s3_pipeline
import s3server

from penstock.results import ResultStore
from penstock.testing import wait_until


@pytest.fixture
def store(s3: s3server.S3Server, tmp_path: Path) -> ResultStore:
    return ResultStore(s3.url(tmp_path.name), storage_options=s3.storage_options)


def test_what_is_stored_is_not_executed_again(store: ResultStore, tmp_path: Path) -> None:
    log = tmp_path / "executions"
    _kill_in_an_upload(store, log)
    executed, stored = _executions(log), _whole(store)
    assert set(executed.values()) == {1}
    assert 0 < len(stored) < s3_pipeline.COUNT
    _sweep(store)
    with _start(store, log) as last:
        assert last.communicate(timeout=60)[0] == f"{sum(range(s3_pipeline.COUNT))}\n"
    assert _executions(log) - executed == Counter(set(range(s3_pipeline.COUNT)) - stored)
    assert _whole(store) == set(range(s3_pipeline.COUNT))
    assert _uploads(store) == set()


def _kill_in_an_upload(store: ResultStore, log: Path) -> None:
    """Kill the flow in the middle of an upload, after another result has been stored."""
    with _start(store, log) as process:

        def uploads() -> bool:
            assert process.poll() is None, "the flow ended before it could be killed"
            return bool(store.keys() and _uploads(store))

        wait_until(uploads, "an upload after a result")
        process.kill()


def _start(store: ResultStore, log: Path) -> subprocess.Popen[str]:
    arguments = [store.url, json.dumps(dict(store.storage_options)), str(log)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, s3_pipeline.__file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _executions(log: Path) -> Counter[int]:
    return Counter(map(int, log.read_text().split()))


def _whole(store: ResultStore) -> set[int]:
    """Read what can be seen of the tasks' results, which must be whole, and give the numbers found."""
    keys = store.keys()
    values = [store.read(key) for key in keys if store.info(key).type == "list"]
    assert all(value == s3_pipeline.value(value[0]) for value in values)
    assert len({value[0] for value in values}) == len(values)
    return {value[0] for value in values}


def _sweep(store: ResultStore) -> None:
    left = _uploads(store)
    assert set(store.gc(orphan_age=timedelta(seconds=-60)).orphans) == left
    assert _uploads(store) == set()


def _uploads(store: ResultStore) -> set[str]:
    return set(store.blobs.orphans(time.time() + 60))
