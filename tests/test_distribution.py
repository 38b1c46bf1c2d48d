"""What is built is whole, and nothing else; and the suite tests what it says it tests: the checkout, or the wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "penstock": "engine",
    "penstock_runners": "runners",
    "penstock_results": "results",
    "penstock_history": "history",
}


@pytest.mark.parametrize("name", PACKAGES)
def test_modules_come_from_what_is_installed(name: str) -> None:
    source = json.loads(distribution("penstock").read_text("direct_url.json") or "{}")
    editable = source.get("dir_info", {}).get("editable", False)
    home = ROOT / PACKAGES[name] if editable else Path(sysconfig.get_path("purelib"))
    assert Path(str(import_module(name).__file__)).parent == home / name


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_marked_as_typed(name: str) -> None:
    assert Path(str(import_module(name).__file__)).with_name("py.typed").is_file()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is made from it."""
    folder = tmp_path_factory.mktemp("dist")
    run("build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


def run(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_an_index_would_take_them(dist: Path) -> None:
    run("twine", "check", "--strict", *map(str, dist.iterdir()))


def test_the_wheel_holds_the_packages_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        held = set(wheel.namelist())
    information = f"penstock-{penstock.__version__}.dist-info"
    sources = {
        str(file.relative_to(ROOT / folder))
        for name, folder in PACKAGES.items()
        for file in (ROOT / folder / name).rglob("*")
        if file.suffix == ".py" or file.name == "py.typed"
    }
    assert len(sources) > 150
    assert sources - held == set()
    extra = {name for name in held - sources if not name.startswith(f"{information}/")}
    assert {Path(name).suffix for name in extra} <= {".sql"}, extra
    assert f"{information}/licenses/LICENSE" in held


def test_the_wheel_says_what_it_needs(dist: Path) -> None:
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        information = f"penstock-{penstock.__version__}.dist-info"
        metadata = message_from_bytes(wheel.read(f"{information}/METADATA"))
        points = wheel.read(f"{information}/entry_points.txt").decode()
    assert metadata["Version"] == penstock.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "penstock = penstock.__main__:main" in points
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"dask", "ray", "s3", "arrow", "compression", "checksums", "postgresql", "opentelemetry", "all"} <= extras
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(needed) == 7, needed


def test_the_sdist_is_enough_to_work_on(dist: Path) -> None:
    with tarfile.open(only(dist, "*.tar.gz")) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    top = {"pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile"}
    assert top - held == set()
    for folder in ("engine", "runners", "results", "history", "tests", "benchmarks", "docs"):
        tracked = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.split()
        assert {name for name in tracked if (ROOT / name).exists()} - held == set()
    assert [name for name in held if "__pycache__" in name or name.startswith((".venv", "site/", "dist/"))] == []
