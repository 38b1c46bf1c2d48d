"""What the programs need around them: somebody's API, and time that does not have to pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loopback
import pytest

from penstock import Engine
from penstock.results import ResultStore
from penstock.testing import VirtualClock, penstock_test_harness


@pytest.fixture
def api() -> Iterator[loopback.JsonServer]:
    """A server on loopback in place of the APIs on the internet; tests say what it answers."""
    with loopback.serve({}) as server:
        yield server


@pytest.fixture
def jumping_clock() -> Iterator[Engine]:
    """Delays of minutes pass at once."""
    with penstock_test_harness(clock=VirtualClock(autojump=True)) as engine:
        yield engine


@pytest.fixture
def cache_clock(tmp_path: Path) -> Iterator[VirtualClock]:
    """Moving it lets cached results expire."""
    clock = VirtualClock()
    with Engine(results=ResultStore(tmp_path / "results", clock=clock)):
        yield clock
