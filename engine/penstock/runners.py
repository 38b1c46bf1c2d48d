"""Task runners: where attempts execute.

Importing this imports neither Dask nor Ray; their runners do so when they open.
"""

from __future__ import annotations

from penstock_runners.base import TaskRunner
from penstock_runners.dask import DaskTaskRunner, get_dask_client
from penstock_runners.processes import ProcessPoolTaskRunner
from penstock_runners.ray import RayTaskRunner, remote_options
from penstock_runners.sequential import SequentialTaskRunner
from penstock_runners.threads import ThreadPoolTaskRunner

__all__ = (
    "ConcurrentTaskRunner",
    "DaskTaskRunner",
    "ProcessPoolTaskRunner",
    "RayTaskRunner",
    "SequentialTaskRunner",
    "TaskRunner",
    "ThreadPoolTaskRunner",
    "get_dask_client",
    "remote_options",
)

ConcurrentTaskRunner = ThreadPoolTaskRunner
"""The peer's former name for its default runner."""
