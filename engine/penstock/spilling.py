"""Large values of finished runs: in memory while there is room, else in the result store."""

from __future__ import annotations

import threading  # noqa: TID251 (runs finish on many threads)
import weakref
from typing import Any

from penstock.errors import ConfigurationError
from penstock.keeping import size_of
from penstock.ports import Reference
from penstock.records import Run
from penstock.wiring import open_store

__all__ = ("Spill",)

_SMALL = 64 * 1024
"""Bytes below which a value is not worth counting: its record and future weigh about a kilobyte themselves."""


class Spill:
    """Decides which values of submitted runs stay in memory.

    Args:
        threshold: Bytes above which a single value goes to the store.
        budget: Bytes that all values together may hold; what would exceed it goes to the store.

    Raises:
        ConfigurationError: If a number is negative.
    """

    def __init__(self, threshold: int | None, budget: int | None) -> None:
        for name, number in (("spill_bytes", threshold), ("memory_budget", budget)):
            if number is not None and number < 0:
                raise ConfigurationError(f"Engine({name}={number!r}) is negative; give bytes, or None for no limit.")
        self._threshold = threshold
        self._budget = budget
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes of values that are in memory because somebody holds the future of their run."""
        return self._held

    def __bool__(self) -> bool:
        return self._threshold is not None or self._budget is not None

    def place(self, run: Run, value: Any) -> Any:
        """Leave a value where it is, or put it in the engine's store.

        Returns:
            The value, or a reference to it.
        """
        size = size_of(value)
        if size < _SMALL or isinstance(value, Reference) or run.future is None:
            return value
        if (self._threshold is not None and size > self._threshold) or not self._reserve(run, size):
            return open_store(run.engine.results).write(value, provenance={"run": str(run.id), "name": run.name})
        return value

    def _reserve(self, run: Run, size: int) -> bool:
        if self._budget is None:
            return True
        with self._lock:
            if self._held + size > self._budget:
                return False
            self._held += size
        weakref.finalize(run.future, self._release, size).atexit = False
        return True

    def _release(self, size: int) -> None:
        with self._lock:
            self._held -= size
