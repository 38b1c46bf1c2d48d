"""A pytest fixture: ``from penstock.testing import penstock_engine`` in a ``conftest.py`` makes it known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.engine import Engine
from penstock.testing import penstock_test_harness

__all__ = ("penstock_engine",)


@pytest.fixture
def penstock_engine() -> Iterator[Engine]:
    """An engine of the test's own, entered: flows that the test calls belong to it, and their home is temporary."""
    with penstock_test_harness() as engine:
        yield engine
