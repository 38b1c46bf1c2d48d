"""A store that one Python version wrote is read by the others.

The other versions are looked for in ``PENSTOCK_PYTHONS`` (paths, separated like ``PATH``) and in virtual environments
named ``.venv-*`` at the root of the repository; they need orjson, cloudpickle, fsspec and xxhash, and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import result_exchange

ROOT = Path(__file__).parents[2]
NEEDS = "import orjson, cloudpickle, fsspec, xxhash"


def _interpreters() -> list[str]:
    named = [path for path in os.environ.get("PENSTOCK_PYTHONS", "").split(os.pathsep) if path]
    return named or sorted(str(path) for path in ROOT.glob(".venv-*/bin/python"))


@pytest.fixture(params=_interpreters() or [None], ids=str)
def other(request: pytest.FixtureRequest) -> str:
    if request.param is None:
        pytest.skip("no other Python: name some in PENSTOCK_PYTHONS, or make .venv-3.13 with the packages above")
    interpreter: str = request.param
    if subprocess.run([interpreter, "-c", NEEDS], capture_output=True, check=False).returncode:
        pytest.skip(f"{interpreter} lacks what the result store needs: orjson, cloudpickle, fsspec, xxhash")
    return interpreter


def _run(interpreter: str, *arguments: str) -> None:
    folders = (ROOT / name for name in ("engine", "results", "runners"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([interpreter, result_exchange.__file__, *arguments], check=True, env=environment)


def test_they_read_what_we_wrote(other: str, tmp_path: Path) -> None:
    url = str(tmp_path / "results")
    result_exchange.write(url, "ours")
    _run(other, "read", url, "ours")


def test_we_read_what_they_wrote(other: str, tmp_path: Path) -> None:
    url = str(tmp_path / "results")
    _run(other, "write", url, "theirs")
    assert result_exchange.read(url, "theirs") == len(result_exchange.values())


def test_the_exchange_itself_works_here(tmp_path: Path) -> None:
    url = str(tmp_path / "results")
    _run(sys.executable, "write", url, "same")
    _run(sys.executable, "read", url, "same")
