"""Penstock: an asyncio-first, embeddable workflow engine with pluggable task runners.

Python functions become flows and tasks with two decorators; runs get states, retries, timeouts, hooks and logs. The
engine lives inside your process and event loop: no server, no port, no daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    "resume",
    "runtime",
    "tags",
    "task",
    "unmapped",
    "wait",
    "wait_async",
)

if TYPE_CHECKING:
    from penstock import runtime
    from penstock.annotations import allow_failure, quote, unmapped
    from penstock.context import tags
    from penstock.engine import Engine
    from penstock.explain import explain_cache
    from penstock.flows import Flow, flow
    from penstock.futures import as_completed, wait, wait_async
    from penstock.history import resume
    from penstock.logging import get_run_logger
    from penstock.states import State
    from penstock.tasks import Task, task
else:
    # Each name is imported when it is first asked for: the command line says its version without the engine, which
    # takes 150 ms, and workers load only what they need (benchmarks/imports.py).
    _MODULES = {
        "Engine": "engine",
        "Flow": "flows",
        "State": "states",
        "Task": "tasks",
        "allow_failure": "annotations",
        "as_completed": "futures",
        "explain_cache": "explain",
        "flow": "flows",
        "get_run_logger": "logging",
        "quote": "annotations",
        "resume": "history",
        "runtime": "runtime",
        "tags": "context",
        "task": "tasks",
        "unmapped": "annotations",
        "wait": "futures",
        "wait_async": "futures",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'penstock' has no attribute {name!r}")
        from importlib import import_module

        module = import_module(f"penstock.{_MODULES[name]}")
        found = module if name == _MODULES[name] else getattr(module, name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
