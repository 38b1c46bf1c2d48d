"""Without its optional packages Penstock works, and says which command brings the one that a feature needs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

# What needs each extra, as a program that asks for it; `folder` is an empty one.
FEATURES = {
    "dask": "from penstock.runners import DaskTaskRunner\nwith DaskTaskRunner(): pass",
    "ray": "from penstock.runners import RayTaskRunner\nwith RayTaskRunner(): pass",
    "s3": "from penstock.results import ResultStore\nResultStore('s3://bucket/prefix').write(1)",
    "arrow": "import pandas\nfrom penstock.results import ResultStore\n"
    "ResultStore(folder).write(pandas.DataFrame({'a': [1]}), serializer='arrow')",
    "checksums": "from penstock_results.digests import DIGESTS\nDIGESTS['xxh3'](b'')",
    "compression": "from penstock.results import ResultStore\nResultStore(folder, compression='zstd').write(1)",
    "postgresql": "from penstock.history import History\nHistory('postgresql://localhost/db').runs()",
    "opentelemetry": "import penstock.opentelemetry",
}

# Which modules an extra brings, where they are not called like its packages.
MODULES = {"opentelemetry-api": "opentelemetry"}

NOT_INSTALLED = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nowhere())
"""

USES_NONE = """
import warnings
from pathlib import Path
from penstock import Engine, flow, task
from penstock.cache_policies import INPUTS
from penstock.runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from penstock.__main__ import main

@task(persist_result=True, cache_policy=INPUTS)
def double(number):
    return 2 * number

@flow
def doubled(numbers):
    return double.map(numbers).result()

if __name__ == "__main__":
    for runner in (ThreadPoolTaskRunner(), ProcessPoolTaskRunner(1)):
        with Engine(runner=runner, results=folder, history=Path(folder) / "history.db"):
            assert doubled([1, 2, 3]) == [2, 4, 6]
            assert doubled([1, 2, 3]) == [2, 4, 6]
    main()
"""


def extras() -> set[str]:
    return set(metadata("penstock").get_all("Provides-Extra") or ()) - {"all", "dev"}


def packages(extra: str | None = None) -> list[str]:
    """The modules that an extra brings, or that all of them bring."""
    found = [re.fullmatch(r"([\w.-]+).*extra == ['\"](\w+)['\"].*", line) for line in requires("penstock") or ()]
    wanted = extras() if extra is None else {extra}
    names = [match[1] for match in found if match is not None and match[2] in wanted and match[1] != "penstock"]
    return [MODULES.get(name, name) for name in names]


def run(tmp_path: Path, blocked: list[str], program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that cannot import these modules."""
    script = tmp_path / "program.py"
    script.write_text(f"{NOT_INSTALLED}\nblocked = {blocked}\nfolder = {str(tmp_path / 'results')!r}\n{program}")
    command = [sys.executable, "-W", "error", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)


def test_every_extra_has_a_feature() -> None:
    assert extras() == FEATURES.keys()


@pytest.mark.parametrize("extra", FEATURES)
def test_a_missing_extra_is_named_with_the_command_that_brings_it(extra: str, tmp_path: Path) -> None:
    modules = packages(extra)
    assert modules
    ended = run(tmp_path, modules, FEATURES[extra])
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert re.match(rf"penstock\.errors\.MissingExtra: .+: pip install 'penstock\[{extra}\]'$", last), ended.stderr


def test_without_any_extra_the_rest_works(tmp_path: Path) -> None:
    ended = run(tmp_path, packages(), USES_NONE, "version")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("penstock ")
