"""Histories of a test's own, and engines that record in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from interrupted import World

from penstock import Engine
from penstock.history import History


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.db")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(history=tmp_path / "history.db", results=tmp_path / "results") as engine:
        yield engine
