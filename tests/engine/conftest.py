"""Worlds and runners that tests multiply over, and quiet logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from worlds import WORLDS, World

from penstock import Engine
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock.testing import VirtualClock, penstock_test_harness


@pytest.fixture(params=WORLDS, ids=str)
def world(request: pytest.FixtureRequest) -> World:
    """Where flows run."""
    return request.param


@pytest.fixture(params=[SequentialTaskRunner, ThreadPoolTaskRunner], ids=["sequential", "threads"])
def runner(request: pytest.FixtureRequest) -> type[SequentialTaskRunner | ThreadPoolTaskRunner]:
    """Where submitted tasks execute."""
    return request.param


@pytest.fixture
def clock() -> VirtualClock:
    """Time that jumps when every run rests."""
    return VirtualClock(autojump=True)


@pytest.fixture
def engine(runner: type[SequentialTaskRunner | ThreadPoolTaskRunner], clock: VirtualClock) -> Iterator[Engine]:
    """An engine with that runner and that clock, entered."""
    with penstock_test_harness(runner, clock=clock) as engine:
        yield engine


@pytest.fixture
def default_engine(clock: VirtualClock) -> Iterator[Engine]:
    """An engine with the default runner and that clock, entered; for what does not depend on the runner."""
    with penstock_test_harness(clock=clock) as engine:
        yield engine
