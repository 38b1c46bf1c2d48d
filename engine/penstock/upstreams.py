"""Waiting for the runs that a run depends on, and what happens if one of them did not complete."""

from __future__ import annotations

from typing import Any, cast

from penstock.errors import Cancelled, UpstreamFailed
from penstock.futures import Future
from penstock.inputs import replace_inputs
from penstock.ports import Host
from penstock.records import Run
from penstock.states import State
from penstock.waiting import wait_for

__all__ = ("Skip", "receive_inputs")


class Skip(Exception):
    """A run that this one depends on did not complete."""

    def __init__(self, error: UpstreamFailed) -> None:
        self.error = error


async def receive_inputs(run: Run, host: Host) -> None:
    """Wait for the runs whose values are among the arguments, then put the values in their places.

    Waiting holds nothing: no worker, no thread, no slot. All are waited for before any is judged, so that a run
    that is skipped is skipped for the same upstream however the race between them went.
    """
    for upstream, _ in run.inputs:
        if isinstance(upstream, Future) and not upstream.done:
            run.waiting_on = upstream
            await wait_for(run, host, upstream)
    run.waiting_on = None
    if run.scope.cancel_reason is not None:
        # What it waited for was cancelled with it, perhaps a moment earlier; that is not why it ends.
        raise Cancelled(f"{run} was {run.scope.cancel_reason}")
    values: dict[int, Any] = {}
    for upstream, allowed in run.inputs:
        if isinstance(upstream, Future | State):
            values[id(upstream)] = await _value_of_input(run, host, upstream, allowed)

    def known(upstream: Future[Any] | State) -> Any:
        return values[id(upstream)]

    run.args = tuple(replace_inputs(value, known) for value in run.args)
    run.kwargs = {name: replace_inputs(value, known) for name, value in run.kwargs.items()}
    run.inputs = ()


async def _value_of_input(run: Run, host: Host, upstream: Future[Any] | State, allowed: bool) -> Any:
    state = cast(State, upstream.run.state) if isinstance(upstream, Future) else upstream
    if state.is_completed():
        if state.is_elsewhere and not run.takes_reference(state.data):
            return await host.offload(run, state.result)
        return state.data
    if allowed and (state.is_failed() or state.is_skipped()):
        if isinstance(upstream, Future):
            upstream.look()
        return state.error
    # Whoever looks at this run has dealt with everything that kept it from starting, not only with the first.
    run.skipped_because_of = tuple(one for one, _ in run.inputs if isinstance(one, Future) and not _completed(one))
    raise Skip(_upstream_failed(run, upstream, state))


def _completed(upstream: Future[Any]) -> bool:
    return cast(State, upstream.run.state).is_completed()


def _upstream_failed(run: Run, upstream: Future[Any] | State, state: State) -> UpstreamFailed:
    """The error of a skipped run names the first cause, however far up it lies, and is chained to it."""
    if state.is_skipped() and isinstance(state.data, UpstreamFailed):
        error = UpstreamFailed(f"{run} was skipped{str(state.data).partition(' was skipped')[2]}")
        error.__cause__ = state.data.__cause__
        return error
    cause = state.error
    who = str(upstream.run) if isinstance(upstream, Future) else "a state among its arguments"
    error = UpstreamFailed(
        f"{run} was skipped because {who} is {state.name}: {type(cause).__name__}: {cause}. "
        "Wrap the argument in allow_failure(...) to run anyway."
    )
    error.__cause__ = cause
    return error
