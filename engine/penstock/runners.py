"""Task runners: where attempts execute."""

from __future__ import annotations

from penstock_runners.base import TaskRunner
from penstock_runners.sequential import SequentialTaskRunner
from penstock_runners.threads import ThreadPoolTaskRunner

__all__ = ("ConcurrentTaskRunner", "SequentialTaskRunner", "TaskRunner", "ThreadPoolTaskRunner")

ConcurrentTaskRunner = ThreadPoolTaskRunner
"""The peer's former name for its default runner."""
