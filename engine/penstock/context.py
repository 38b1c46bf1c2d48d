"""Who is running: the context variables that the engine sets, and nothing else."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from penstock.errors import MissingContextError

if TYPE_CHECKING:
    from penstock.engine import Engine
    from penstock.flow_runs import FlowRun
    from penstock.records import Run

__all__ = ("current_engine", "current_run", "current_tags", "require_flow_run", "tags")

current_run: ContextVar[Run | None] = ContextVar("penstock_run", default=None)
current_engine: ContextVar[Engine | None] = ContextVar("penstock_engine", default=None)
current_tags: ContextVar[frozenset[str]] = ContextVar("penstock_tags", default=frozenset())


@contextmanager
def tags(*names: str) -> Generator[frozenset[str], None, None]:
    """Give every run that starts inside the block these tags, besides its own.

    Yields:
        All tags in force inside the block.
    """
    token = current_tags.set(current_tags.get() | frozenset(names))
    try:
        yield current_tags.get()
    finally:
        current_tags.reset(token)


def require_flow_run(what: str) -> FlowRun:
    """The flow run around the caller.

    Raises:
        MissingContextError: If there is none; ``what`` says what needed it.
    """
    run = current_run.get()
    if run is None or run.flow_run is None:
        raise MissingContextError(f"{what} needs a flow run around it: call it inside a function decorated with @flow.")
    return run.flow_run
