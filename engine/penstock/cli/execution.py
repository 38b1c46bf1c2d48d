"""Run a flow in this process and say how it ended."""

from __future__ import annotations

import asyncio  # noqa: TID251 (a command has no loop yet)
import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from inspect import iscoroutine
from typing import Any

import click

from penstock.cli.exits import Exit
from penstock.cli.output import print_json, print_line
from penstock.cli.tracebacks import print_failure
from penstock.cli.words import duration, state_cell
from penstock.engine import Engine
from penstock.flow_runs import FlowRun
from penstock.ports import Event
from penstock.runtime import stop_on_sigterm
from penstock.states import State
from penstock.wiring import default_history

__all__ = ("execute",)


def execute(call: Callable[[], Any], as_json: bool) -> None:
    """Run a flow to its end, print how that was, and leave with the exit code that says it.

    Args:
        call: Calls the flow, or resumes a run of it; gives its value, or a coroutine that does.
        as_json: Whether to print JSON, and nothing else, on standard output: what the flow prints goes to the other.

    Raises:
        Exception: What kept the flow from running.
    """
    first, value, failure = _First(), None, None
    with (
        stop_on_sigterm(),
        _output_kept_for_json() if as_json else nullcontext(),
        Engine(history=default_history(), sinks=[first]),
    ):
        try:
            value = call()
            value = asyncio.run(value) if iscoroutine(value) else value
        except Exception as error:
            failure = error
    run = first.run
    if failure is not None:
        if run is None:
            raise failure
        print_failure(failure)
    assert run is not None, "a flow that has ended has had states"
    _report(run, value, as_json)


def _report(run: FlowRun, value: Any, as_json: bool) -> None:
    state = run.state
    assert state is not None, "a flow that has ended has had states"
    if as_json:
        print_json(_facts(run, state, value))
    else:
        print_line(state_cell(state.type, state.name), f"  {run.name}  {_took(run)}  {run.id}")
    if not state.is_completed():
        click.get_current_context().exit(Exit.FAILED)


class _First:
    """Takes note of the outermost run: it is the one that makes the first transition."""

    run: FlowRun | None = None

    def emit(self, event: Event) -> None:
        """Take note of a transition."""
        if self.run is None:
            self.run = event.run


@contextmanager
def _output_kept_for_json() -> Generator[None, None, None]:
    """Send to standard error what anybody writes to standard output meanwhile, the processes of the flow included."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _facts(run: FlowRun, state: State, value: Any) -> dict[str, Any]:
    return {
        "id": str(run.id),
        "name": run.name,
        "flow": run.flow.name,
        "state": state.name,
        "type": state.type.value,
        "message": state.message,
        "result": _plain(value),
    }


def _plain(value: Any) -> Any:
    """The value if JSON can say it, else its ``repr``."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


def _took(run: FlowRun) -> str:
    times = [state.timestamp for state in run.history if state.timestamp is not None]
    return duration(times[-1] - times[0])
