"""Something that every event loop has one of."""

from __future__ import annotations

import asyncio  # noqa: TID251 (names the loops)
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ("PerLoop",)

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Makes one for each loop when it is first asked for, and forgets those of loops that were closed.

    Args:
        make: Makes one, for a loop.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def of(self, loop: asyncio.AbstractEventLoop) -> T:
        """The one of this loop."""
        found = self._made.get(loop)
        if found is None:
            for closed in [known for known in tuple(self._made) if known.is_closed()]:
                self._made.pop(closed, None)
            found = self._made.setdefault(loop, self._make(loop))
        return found
