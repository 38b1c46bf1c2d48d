"""Task runners: where attempts execute.

The runners that stand on processes, Dask and Ray are imported when they are first asked for, so that naming one of
the others costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from penstock_runners.base import TaskRunner
from penstock_runners.sequential import SequentialTaskRunner
from penstock_runners.threads import ThreadPoolTaskRunner

if TYPE_CHECKING:
    from penstock_runners.dask import DaskTaskRunner, get_dask_client
    from penstock_runners.processes import ProcessPoolTaskRunner
    from penstock_runners.ray import RayTaskRunner, remote_options

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

_HOMES = {
    "DaskTaskRunner": "penstock_runners.dask",
    "ProcessPoolTaskRunner": "penstock_runners.processes",
    "RayTaskRunner": "penstock_runners.ray",
    "get_dask_client": "penstock_runners.dask",
    "remote_options": "penstock_runners.ray",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
