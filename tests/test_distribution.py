"""The suite tests what it says it tests: the checkout, or the built wheel."""

from __future__ import annotations

import json
import sysconfig
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"penstock": "engine", "penstock_runners": "runners", "penstock_results": "results"}


@pytest.mark.parametrize("name", PACKAGES)
def test_modules_come_from_what_is_installed(name: str) -> None:
    source = json.loads(distribution("penstock").read_text("direct_url.json") or "{}")
    editable = source.get("dir_info", {}).get("editable", False)
    home = ROOT / PACKAGES[name] if editable else Path(sysconfig.get_path("purelib"))
    assert Path(str(import_module(name).__file__)).parent == home / name


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_marked_as_typed(name: str) -> None:
    assert Path(str(import_module(name).__file__)).with_name("py.typed").is_file()
