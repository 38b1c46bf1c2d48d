"""Values much larger than what the store may hold on top of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rgw as gateways
import s3server

MB = 1_000_000

# Runs alone in a process, because the peak of a process is all that the kernel counts.
PROGRAM = """
import gc, json, sys
from pathlib import Path
import numpy as np
from penstock.results import ResultStore

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def peak(work):
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = work()
    return result, status("VmHWM") - before

url, options, size, kind = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
store = ResultStore(url, storage_options=options)
store.write(np.zeros(1), "warm")
store.read("warm")
value = np.full(size // 8, 1.5) if kind == "array" else b"x" * size
reference, writing = peak(lambda: store.write(value, "k"))
del value
again, reading = peak(reference.load)
assert len(again) == size // (8 if kind == "array" else 1) and again[-1] == (1.5 if kind == "array" else ord("x"))
store.delete("k")
print(json.dumps([writing, reading - size]))
"""


def _peaks(url: str, options: dict[str, Any], size: int, kind: str) -> list[int]:
    command = [sys.executable, "-c", PROGRAM, url, json.dumps(options), str(size), kind]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    peaks: list[int] = json.loads(done.stdout)
    return peaks


@pytest.fixture(params=["file", "s3"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, s3: s3server.S3Server) -> tuple[str, dict[str, Any]]:
    """A place that does not keep its bytes in our memory."""
    if request.param == "file":
        return str(tmp_path / "results"), {}
    return s3.url(tmp_path.name), s3.storage_options


def test_an_array_takes_no_second_copy(disk: tuple[str, dict[str, Any]]) -> None:
    assert max(_peaks(*disk, 256 * MB, "array")) < 128 * MB


def test_bytes_take_one_copy_while_they_are_read(tmp_path: Path) -> None:
    writing, reading = _peaks(str(tmp_path / "results"), {}, 256 * MB, "bytes")
    assert writing < 128 * MB
    assert reading < (256 + 128) * MB


@pytest.mark.chaos
def test_two_gigabytes(disk: tuple[str, dict[str, Any]]) -> None:
    assert max(_peaks(*disk, 2_000 * MB, "array")) < 128 * MB


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_two_gigabytes_in_true_parts(rgw: gateways.Gateway) -> None:
    assert max(_peaks(rgw.url("large"), rgw.storage_options, 2_000 * MB, "array")) < 128 * MB
