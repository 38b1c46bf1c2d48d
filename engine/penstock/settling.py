"""The end of a flow's function is not the end of the flow: what it returned, and what it left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from penstock.annotations import Quote
from penstock.errors import UnhandledFailures, UpstreamFailed
from penstock.flow_runs import FlowRun
from penstock.futures import Future
from penstock.inputs import Input, find_inputs, replace_inputs
from penstock.logging import run_logger
from penstock.policies import aggregate
from penstock.ports import Host
from penstock.records import Run, cancel_all
from penstock.signals import Signal
from penstock.states import State
from penstock.waiting import wait_for

__all__ = ("settle", "stop_children")


async def settle(run: FlowRun, host: Host, value: Any) -> Any:
    """Turn what a flow's function returned, and what it left behind, into a value, or a state, or an exception.

    A flow is done when everything in it is done: runs that nobody waited for are waited for here, and one that
    failed without anybody looking fails the flow.
    """
    if isinstance(value, Quote):
        returned: Sequence[tuple[Input, bool]] = ()
        value = value.value
    else:
        returned = find_inputs((value,), {})
    if run.flow.on_unfinished != "wait":
        _let_go(run, {upstream.run for upstream, _ in returned if isinstance(upstream, Future)})
    await wait_for_children(run, host)
    if returned:
        known = [upstream for upstream, _ in returned if isinstance(upstream, Future | State)]
        value = await _resolve_returned(run, host, value, known)
    unhandled = [future for future in run.failures if not future.seen]
    run.failures.clear()
    if unhandled:
        raise _unhandled(run, unhandled)
    return value


async def _resolve_returned(run: FlowRun, host: Host, value: Any, returned: Sequence[Future[Any] | State]) -> Any:
    states: dict[int, State] = {}
    for item in returned:
        if isinstance(item, Future):
            await wait_for(run, host, item)
            item.look()
        states[id(item)] = cast(State, item.run.state) if isinstance(item, Future) else item
    if isinstance(value, State):
        return value
    only = isinstance(value, Future) or (isinstance(value, list | tuple | set) and len(value) == len(returned))
    judged = [state for item, state in zip(returned, states.values(), strict=False) if only or isinstance(item, Future)]
    verdict = aggregate(judged)
    if not verdict.is_completed():
        return verdict
    if run.return_states:
        return replace_inputs(value, lambda item: states[id(item)])
    values = {
        key: await host.offload(run, state.result) if state.is_elsewhere else state.data
        for key, state in states.items()
    }
    return replace_inputs(value, lambda item: values[id(item)] if only or isinstance(item, Future) else item)


def _unhandled(run: FlowRun, failures: Sequence[Future[Any]]) -> UnhandledFailures:
    states = [(future, cast(State, future.run.state)) for future in failures]
    root = next((pair for pair in states if not pair[1].is_skipped()), states[0])
    named = ", ".join(f"{future.name!r} ({state.name})" for future, state in states[:5])
    more = f" and {len(states) - 5} more" if len(states) > 5 else ""
    cause = root[1].error
    error = UnhandledFailures(
        f"{len(states)} submitted run(s) did not complete and nobody looked at them: {named}{more}. The first failed "
        f"with {type(cause).__name__}: {cause}. Call .result() on their futures, or .state to decide yourself."
    )
    error.__cause__ = cause.__cause__ if isinstance(cause, UpstreamFailed) and cause.__cause__ else cause
    return error


def _let_go(run: FlowRun, kept: set[Run]) -> None:
    """Cancel or detach the runs that the flow left unfinished, as its ``on_unfinished`` option says."""
    left = {child for child in tuple(run.live) if child not in kept}
    if run.flow.on_unfinished == "cancel":
        cancel_all(left, "cancelled at the end of its flow")
    else:
        run.live -= left
        run.callbacks -= {called for called in _not_returned(run) if called.run in left}
        run.engine.live |= left


def _not_returned(run: FlowRun) -> list[Signal]:
    return [called for called in run.callbacks.copy() if not called.done]


async def wait_for_children(run: FlowRun, host: Host, timeout: float | None = None) -> None:
    # A run's end and its callbacks are two things: the thread that brought the end may not have called them yet.
    while waiting := [*(child.future for child in tuple(run.live) if child.future is not None), *_not_returned(run)]:
        for signal in waiting:
            if not signal.done and not await wait_for(run, host, signal, timeout):
                run_logger(run).error("%s did not stop within %s seconds.", signal.run, timeout)
                return
        if timeout is not None:
            return


async def stop_children(run: FlowRun, host: Host) -> float:
    """Cancel what is left inside a flow that failed or was cancelled, and let it clean up.

    Returns:
        Seconds that the flow's runner gets to let go: none if somebody lost patience.
    """
    grace = run.engine.grace
    cancel_all(run.live, f"cancelled with {run}")
    try:
        if run.live or run.callbacks:
            await wait_for_children(run, host, grace)
    except BaseException as error:
        if not isinstance(error, (*host.cancellations, KeyboardInterrupt)):
            raise
        grace = 0.0
        run_logger(run).warning("Interrupted again while stopping; not waiting for %d run(s).", len(run.live))
    for future in run.failures:
        future.seen = True
    run.failures.clear()
    return grace
