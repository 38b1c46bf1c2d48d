"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable

from penstock.ports import Timer

__all__ = ("VirtualClock",)


class VirtualClock:
    """Time that only `advance` moves; nothing in the result store asks for timers."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def time(self) -> float:
        return self._now

    monotonic = time

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        raise NotImplementedError("this clock keeps no timers")
