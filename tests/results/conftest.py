"""Places to keep results in: a folder, memory, a bucket of a real S3 server, and a filesystem nobody has heard of."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import fsspec.asyn
import pytest
import rgw as gateways
import s3server
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from penstock.results import ResultStore
from penstock_results.testing import OpenStore

_numbers = itertools.count()


class Elsewhere(MemoryFileSystem):
    """A filesystem that the store has no code for; like many, it shows a file while that is being written."""

    protocol = "elsewhere"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("elsewhere://")))

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> MemoryFile:
        """Give each reader a position of its own; fsspec's memory has one for all."""
        file = super()._open(path, mode, *args, **kwargs)
        return MemoryFile(self, path, file.getvalue()) if mode == "rb" else file


fsspec.register_implementation("elsewhere", Elsewhere)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Generator[s3server.S3Server]:
    with s3server.serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Generator[gateways.Gateway]:
    """The Ceph RADOS Gateway, for tests marked as chaos; tests/support/rgw.py says how to install it."""
    lacking = gateways.missing()
    if lacking is not None:
        pytest.skip(lacking)
    with gateways.serve(tmp_path_factory.mktemp("rgw")) as gateway:
        yield gateway


@pytest.fixture(scope="session", autouse=True)
def _fsspec_thread() -> None:
    """Start the one thread that fsspec keeps for all its filesystems, before any test counts threads."""
    fsspec.asyn.get_loop()


@pytest.fixture(params=["file", "memory", "s3", "elsewhere"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: s3server.S3Server) -> tuple[str, dict[str, Any]]:
    """A URL where nothing lies, and the storage options that it needs."""
    if request.param == "file":
        return f"file://{tmp_path}/results", {}
    if request.param == "memory":
        return f"memory://{tmp_path}", {}
    if request.param == "elsewhere":
        return f"elsewhere://{tmp_path}", {}
    return s3.url(f"results-{next(_numbers)}"), s3.storage_options


@pytest.fixture
def open_store(place: tuple[str, dict[str, Any]]) -> OpenStore:
    url, options = place

    def open_store(**settings: Any) -> ResultStore:
        return ResultStore(url, storage_options=options, **settings)

    return open_store
