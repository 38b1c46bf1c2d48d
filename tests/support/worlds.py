"""One test body in every world in which flows run.

A test writes its functions once, as coroutines that wait with ``await world.get(...)``. In the asyncio worlds they
stay coroutines; in the synchronous ones each becomes the plain function that the coroutine describes, because there
``get`` blocks and never suspends.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import uvloop
from blockbuster import blockbuster_ctx

from penstock.futures import Future, as_completed

T = TypeVar("T")


class World:
    """Where flows run.

    Attributes:
        is_async: Whether functions stay coroutines.
    """

    is_async = False

    def __init__(self, name: str) -> None:
        self.name = name

    def function(self, body: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Any]:
        """The function that this world's flows and tasks are made of."""

        @functools.wraps(body)
        def plain(*args: Any, **kwargs: Any) -> T:
            return _driven(body(*args, **kwargs))

        return plain

    async def get(self, thing: Any) -> Any:
        """The value of a future or of a call."""
        return thing.result() if isinstance(thing, Future) else thing

    async def all_ended(self, futures: Iterable[Future[Any]]) -> list[Future[Any]]:
        """The futures in the order in which they end."""
        return list(as_completed(futures))

    def run(self, call: Callable[[], Any]) -> Any:
        """Call a flow from outside and give its value."""
        return call()

    def __repr__(self) -> str:
        return self.name


class InlineInsideLoop(World):
    """Synchronous code that a coroutine calls, as in a notebook."""

    def run(self, call: Callable[[], Any]) -> Any:
        """Call a flow on a running loop's thread."""

        async def caller() -> Any:
            return call()

        return asyncio.run(caller())


class AsyncioWorld(World):
    """Coroutines on a loop, with an alarm for calls that would block it."""

    is_async = True

    def __init__(self, name: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        super().__init__(name)
        self._loop_factory = loop_factory

    def function(self, body: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Any]:
        """The coroutine function itself."""
        return body

    async def get(self, thing: Any) -> Any:
        """Await it."""
        return await thing if isinstance(thing, Awaitable) else thing

    async def all_ended(self, futures: Iterable[Future[Any]]) -> list[Future[Any]]:
        """The futures in the order in which they end."""
        return [future async for future in as_completed(futures)]

    def run(self, call: Callable[[], Any]) -> Any:
        """Run it on a fresh loop."""

        async def caller() -> Any:
            return await call()

        with asyncio.Runner(loop_factory=self._loop_factory) as runner, blockbuster_ctx("penstock"):
            return runner.run(caller())


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    return loop


def _driven(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("a body that waits must wait with `await world.get(...)`")


INLINE = World("inline")
WORLDS: list[World] = [
    INLINE,
    InlineInsideLoop("inline-inside-loop"),
    AsyncioWorld("asyncio", asyncio.new_event_loop),
    AsyncioWorld("uvloop", uvloop.new_event_loop),
]
if sys.version_info >= (3, 12):
    WORLDS.append(AsyncioWorld("asyncio-eager", _eager_loop))
