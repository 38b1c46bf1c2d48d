"""Penstock: an asyncio-first, embeddable workflow engine with pluggable task runners.

Python functions become flows and tasks with two decorators; runs get states, retries, timeouts, hooks and logs. The
engine lives inside your process and event loop: no server, no port, no daemon.
"""

from __future__ import annotations

from penstock.annotations import allow_failure, quote, unmapped
from penstock.context import tags
from penstock.engine import Engine
from penstock.explain import explain_cache
from penstock.flows import Flow, flow
from penstock.futures import as_completed, wait, wait_async
from penstock.logging import get_run_logger
from penstock.states import State
from penstock.tasks import Task, task

from penstock import runtime  # isort: skip (it reads what the modules above define)

__version__ = "0.1.0"

__all__ = (
    "Engine",
    "Flow",
    "State",
    "Task",
    "__version__",
    "allow_failure",
    "as_completed",
    "explain_cache",
    "flow",
    "get_run_logger",
    "quote",
    "runtime",
    "tags",
    "task",
    "unmapped",
    "wait",
    "wait_async",
)
