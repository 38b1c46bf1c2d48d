"""The Ceph RADOS Gateway on loopback: an object store with what rclone's S3 only resembles, such as true multipart.

`make chaos` runs on it; `make test` does not need it. On Debian:

    apt-get update && apt-get install -y --no-install-recommends ceph-mon ceph-mgr ceph-osd radosgw

The script that starts it, ``shared/tools/ceph-rgw.sh``, lies beside the checkout. Everything is kept in memory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loopback
import psutil

from penstock.testing import wait_until

__all__ = ("Gateway", "missing", "serve")

SCRIPT = Path(__file__).resolve().parents[3] / "shared" / "tools" / "ceph-rgw.sh"
_PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw")
_BUCKET = "bucket"
_PATIENCE = 120.0


@dataclass(frozen=True)
class Gateway:
    """A running gateway, and where it listens."""

    endpoint: str

    @property
    def storage_options(self) -> dict[str, Any]:
        return {"key": "testkey", "secret": "testsecret", "client_kwargs": {"endpoint_url": self.endpoint}}

    def url(self, prefix: str) -> str:
        return f"s3://{_BUCKET}/{prefix}"


def missing() -> str | None:
    """Say what it takes to start a gateway here, or None if nothing is missing."""
    absent = [package for package in _PACKAGES if shutil.which(package) is None]
    if absent:
        return f"the Debian packages {' '.join(absent)} are not installed"
    return None if SCRIPT.is_file() else f"{SCRIPT} is not there"


@contextmanager
def serve(folder: Path) -> Generator[Gateway]:
    """Start a gateway whose files lie in the folder, which is emptied; end it afterwards."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    port = _free_ports()
    try:
        _start(folder, port)
        wait_until(lambda: loopback.listens(port), "the gateway to listen", _PATIENCE)
        gateway = Gateway(f"http://127.0.0.1:{port}")
        _make_bucket(gateway)
        yield gateway
    finally:
        _end(folder / "run")


def _free_ports() -> int:
    """Find a free port whose successor is free as well: the script takes both."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def _start(folder: Path, port: int) -> None:
    """Run the script. Its output goes to a file: a pipe would stay open for as long as a daemon lives."""
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        script = subprocess.Popen(["bash", SCRIPT, folder, str(port)], stdout=output, stderr=output)
        try:
            code = script.wait(_PATIENCE)
        finally:
            if script.poll() is None:
                for process in [*psutil.Process(script.pid).children(recursive=True), script]:
                    process.kill()
                script.wait()
    if code:
        raise RuntimeError(f"{SCRIPT} ended with {code}: {log.read_text()[-2000:]}")


def _make_bucket(gateway: Gateway) -> None:
    import s3fs

    s3fs.S3FileSystem(**gateway.storage_options, skip_instance_cache=True).mkdir(_BUCKET)


def _end(run: Path) -> None:
    """End the daemons that left their process ids, and nothing that has taken over such an id since."""
    daemons = list[psutil.Process]()
    for file in run.glob("*.pid"):
        try:
            process = psutil.Process(int(file.read_text()))
            if process.name() in _PACKAGES:
                process.terminate()
                daemons.append(process)
        except psutil.NoSuchProcess:
            continue  # it ended by itself
    _, alive = psutil.wait_procs(daemons, timeout=10)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=10)
