"""Random programs on threads: tasks that take one another in every way there is, on one worker, two or three.

What comes out is what plain functions would have given, nothing that is cached is executed twice, and nothing hangs:
the few workers are always at tasks that wait for others, which wait for room, for keys or for a loop.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock import Engine, as_completed, flow, task
from penstock.cache_policies import INPUTS, NO_CACHE
from penstock.errors import DeadlockError
from penstock.runners import ThreadPoolTaskRunner

WAYS = ("each", "backwards", "map", "completed", "call")


@dataclass(frozen=True)
class Node:
    """A task of a program.

    Attributes:
        is_async: Whether it is a coroutine.
        cached: Whether its result is.
        way: How it gets the values that it adds up.
        takes: Which earlier tasks these are of; the same one perhaps several times.
    """

    is_async: bool
    cached: bool
    way: str
    takes: tuple[int, ...]


@st.composite
def programs(draw: st.DrawFn) -> list[Node]:
    """Tasks each of which takes some that stand before it."""
    nodes = list[Node]()
    for at in range(draw(st.integers(1, 12))):
        takes = draw(st.lists(st.integers(0, at - 1), max_size=3)) if at else []
        nodes.append(Node(draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from(WAYS)), tuple(takes)))
    return nodes


def expected(nodes: list[Node]) -> list[int]:
    """What plain functions would give."""
    values = list[int]()
    for at, node in enumerate(nodes):
        values.append((at + 1 + sum(values[other] for other in node.takes)) % 10_007)
    return values


class Program:
    """Its tasks, and how often each was executed."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.executed = Counter[int]()
        self._tasks = {
            (is_async, cached): task(body, cache_policy=INPUTS if cached else NO_CACHE)
            for is_async, body in ((False, self._sync), (True, self._async))
            for cached in (False, True)
        }

    def task(self, at: int) -> Any:
        return self._tasks[self.nodes[at].is_async, self.nodes[at].cached]

    def _begin(self, at: int) -> tuple[str, list[Any]]:
        """Submit what the task takes, unless it calls it."""
        self.executed[at] += 1
        node = self.nodes[at]
        if node.way == "call":
            return "call", []
        if node.way == "map" and len({id(self.task(other)) for other in node.takes}) == 1:
            return "map", list(self.task(node.takes[0]).map(node.takes))
        return node.way, [self.task(other).submit(other) for other in node.takes]

    def _sync(self, at: int) -> int:
        way, futures = self._begin(at)
        if way == "call":
            values = [self._call(other) for other in self.nodes[at].takes]
        elif way == "completed":
            values = [future.result() for future in as_completed(futures)]
        else:
            values = [future.result() for future in (reversed(futures) if way == "backwards" else futures)]
        return (at + 1 + sum(values)) % 10_007

    def _call(self, at: int) -> int:
        called = self.task(at)
        value: int = called(at)
        return value

    async def _async(self, at: int) -> int:
        way, futures = self._begin(at)
        if way == "call":
            values = [await self._await(other) for other in self.nodes[at].takes]
        elif way == "completed":
            values = [await future async for future in as_completed(futures)]
        else:
            values = [await future for future in (reversed(futures) if way == "backwards" else futures)]
        return (at + 1 + sum(values)) % 10_007

    async def _await(self, at: int) -> int:
        called = self.task(at)
        value: int = (await called(at)) if self.nodes[at].is_async else called(at)
        return value


@pytest.mark.parametrize("is_async", [False, True], ids=["sync flow", "async flow"])
@pytest.mark.parametrize("workers", [1, 2, 3])
@given(nodes=programs())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_program_gives_what_plain_functions_would(nodes: list[Node], workers: int, is_async: bool) -> None:
    """Or is told that it waits for itself: a coroutine that calls a function stops its loop, and the function may want
    the value of a cached call that another coroutine of that loop is making."""
    program = Program(nodes)
    order = [*reversed(range(len(nodes))), *range(len(nodes))]

    @flow
    def main() -> list[int]:
        return [future.result() for future in [program.task(at).submit(at) for at in order]]

    @flow
    async def main_on_loop() -> list[int]:
        return [await future for future in [program.task(at).submit(at) for at in order]]

    with tempfile.TemporaryDirectory() as store, Engine(ThreadPoolTaskRunner(workers), results=store):
        try:
            values = asyncio.run(main_on_loop()) if is_async else main()  # type: ignore[arg-type]
        except DeadlockError:
            assert any(node.cached for node in nodes)
            assert any(node.is_async and node.way == "call" for node in nodes)
            return
    assert values == [expected(nodes)[at] for at in order]
    assert all(program.executed[at] == 1 for at, node in enumerate(nodes) if node.cached)
