"""The order of work: what happens to a run, from its first state to its last.

This is the only place where that order is written, for flows and tasks, synchronous and asynchronous, called and
submitted. It awaits nothing but its host; a host that never suspends turns it into plain synchronous code. It never
raises an `Exception`: how a run ended is its state, and whoever started it makes a value or an exception of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, cast

from penstock.annotations import Quote
from penstock.errors import (
    Cancelled,
    CancelledRun,
    CrashedRun,
    FailedRun,
    Lost,
    TimedOut,
    UnhandledFailures,
    UpstreamFailed,
)
from penstock.futures import Future, Signal
from penstock.inputs import Input, find_inputs, replace_inputs
from penstock.keeping import Keeper
from penstock.logging import ERROR, INFO, engine_logger, flow_runs, run_logger, task_runs
from penstock.policies import aggregate, ending
from penstock.ports import Host
from penstock.records import FlowRun, Run, TaskRun, cancel_all
from penstock.states import TRANSITIONS, State, StateType
from penstock.waiting import resting

__all__ = ("execute", "value_of")

_PENDING, _RUNNING, _COMPLETED, _FAILED = (
    StateType.PENDING,
    StateType.RUNNING,
    StateType.COMPLETED,
    StateType.FAILED,
)
_NOTHING: dict[str, Any] = {}
_PACKAGES = {"penstock", "penstock.hosts", "penstock_runners"}


async def execute(run: Run, host: Host) -> None:
    """Take a run from its first state to its last.

    Raises:
        BaseException: Only for a run that was called directly: what must go on through its caller, such as a
            cancellation or Ctrl-C.
    """
    passing: BaseException | None = None
    try:
        run.become(_PENDING)
        if run.scope.cancel_reason is not None or (run.parent and run.parent.scope.cancel_reason is not None):
            raise host.cancellations[0](f"{run} was cancelled before it began")
        if run.after is not None:
            await _wait(run, host, run.after)
        if run.inputs:
            await _receive_inputs(run, host)
        if isinstance(run, FlowRun):
            await _begin_flow(run, host)
        persists = run.definition.persists
        if persists or (persists is None and run.inherits_persistence):
            await _find_or_make(run, host, Keeper(run))
        else:
            await _attempts(run, host, None)
    except _Skip as skip:
        run.become(StateType.SKIPPED, "UpstreamFailed", str(skip.error), skip.error)
    except BaseException as error:
        passing = error if _passes_on(run, error) else None
        with host.cleaning_up():
            grace = await _stop_children(run, host) if isinstance(run, FlowRun) else 0.0
            _end(run, host, error)
            passing = await _leave(run, host, grace) or passing
    else:
        if run.definition.hooks or (isinstance(run, FlowRun) and run.owns_runner):
            passing = await _leave(run, host, run.engine.grace)
    _finish(run)
    if passing is not None:
        try:
            raise passing
        finally:
            del passing  # or this frame and the traceback that holds it would keep each other alive


async def _leave(run: Run, host: Host, grace: float) -> BaseException | None:
    """Do what is to be done once the run has its last state.

    Returns:
        What interrupted that. The run ends all the same; whoever interrupted it must not go unheard.
    """
    try:
        await _call_hooks(run, host)
        if isinstance(run, FlowRun) and run.owns_runner:
            await host.offload(partial(run.runner.close, grace))
    except Exception:
        run_logger(run).exception("Closing the task runner failed; the run is not affected.")
    except BaseException as interruption:
        return interruption
    return None


def _passes_on(run: Run, error: BaseException) -> bool:
    """Whether what ended the run must also end its caller: Ctrl-C does, and a cancellation that was not the run's own."""
    if run.future is not None or isinstance(error, Exception | Lost):
        return False
    if isinstance(error, Cancelled):
        return run.parent is not None and run.parent.scope.cancel_reason is not None
    return True


def value_of(run: Run) -> Any:
    """What a directly called run gives to its caller.

    Raises:
        BaseException: What the run ended with, if not COMPLETED.
    """
    state = cast(State, run.state)
    return state.result()


class _Skip(Exception):
    """A run that this one depends on did not complete."""

    def __init__(self, error: UpstreamFailed) -> None:
        self.error = error


async def _wait(run: Run, host: Host, signal: Signal, timeout: float | None = None) -> bool:
    with resting(run, signal):
        return await host.wait(signal, timeout)


async def _receive_inputs(run: Run, host: Host) -> None:
    """Wait for the runs whose values are among the arguments, then put the values in their places.

    Waiting holds nothing: no worker, no thread, no slot. All are waited for before any is judged, so that a run
    that is skipped is skipped for the same upstream however the race between them went.
    """
    for upstream, _ in run.inputs:
        if isinstance(upstream, Future) and not upstream.done:
            run.waiting_on = upstream.run
            await _wait(run, host, upstream)
    run.waiting_on = None
    values = {}
    for upstream, allowed in run.inputs:
        if isinstance(upstream, Future | State):
            values[id(upstream)] = await _value_of_input(run, host, upstream, allowed)
    known = lambda upstream: values[id(upstream)]  # noqa: E731 (a name for what is passed three times)
    run.args = tuple(replace_inputs(value, known) for value in run.args)
    run.kwargs = {name: replace_inputs(value, known) for name, value in run.kwargs.items()}
    run.inputs = ()


async def _value_of_input(run: Run, host: Host, upstream: Future[Any] | State, allowed: bool) -> Any:
    state = cast(State, upstream.run.state) if isinstance(upstream, Future) else upstream
    if state.is_completed():
        if state.is_elsewhere and not run.takes_reference(state.data):
            return await host.offload(state.result)
        return state.data
    if allowed and (state.is_failed() or state.is_skipped()):
        if isinstance(upstream, Future):
            upstream.look()
        return state.error
    # Whoever looks at this run has dealt with everything that kept it from starting, not only with the first.
    run.skipped_because_of = tuple(one for one, _ in run.inputs if isinstance(one, Future) and not _completed(one))
    raise _Skip(_upstream_failed(run, upstream, state))


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


async def _begin_flow(run: FlowRun, host: Host) -> None:
    flow_runs.isEnabledFor(INFO) and run_logger(run).info("Beginning flow run %r for flow %r", run.name, run.flow.name)
    run.flow.validate(run)
    if run.owns_runner:
        await host.offload(partial(run.engine.open_runner, run.runner))


async def _find_or_make(run: Run, host: Host, keeper: Keeper) -> None:
    """Take a result that was stored before; if there is none, make and store it while everybody else waits."""
    try:
        found, value = await keeper.find(host)
        if found:
            run.become(_COMPLETED, "Cached", "The result was stored before.", value)
        else:
            await _attempts(run, host, keeper)
    finally:
        await host.offload(keeper.release)


async def _attempts(run: Run, host: Host, keeper: Keeper | None) -> None:
    """Try until the run has ended or the retries are used up."""
    definition = run.definition
    while True:
        if host.admits:
            await host.admit(run)
        run.attempt += 1
        run.become(_RUNNING, None if run.attempt == 1 else "Retrying")
        if definition.hooks:
            await _call_hooks(run, host)
        try:
            value = await host.perform(run)
            if isinstance(run, FlowRun):
                value = await _settle(run, host, value)
            if run.cancel_reason is not None:
                raise Cancelled(run.cancel_reason)
            if not isinstance(value, State):
                if keeper is not None:
                    value = await host.offload(partial(keeper.keep, value))
                elif run.engine.spill:
                    value = await host.offload(partial(run.engine.spill.place, run, value))
                run.become(_COMPLETED, None, None, value)
                return
            outcome = ending(value)
        except Exception as error:
            if run.cancel_reason is not None:
                # Its children end as cancelled, which the function may have taken for an ordinary failure.
                raise Cancelled(run.cancel_reason) from error
            if isinstance(run, FlowRun):
                await _stop_children(run, host)
            outcome = _failed(run, error)
        except Lost as lost:
            if not run.survives_crash(lost.crash):
                raise
            run_logger(run).warning("Lost its worker, trying again: %s", lost.crash)
            continue
        if not await _try_again(run, host, outcome):
            run.become(outcome.type, outcome._name, outcome.message, outcome.data)
            return


def _failed(run: Run, error: Exception) -> State:
    if isinstance(error, TimedOut) and error.run_id == str(run.id):
        return State(_FAILED, "TimedOut", str(error), error)
    text = f"{run.kind} run encountered an exception: {type(error).__name__}: {error}"
    return State(_FAILED, None, text, error.with_traceback(_users_part(error)))


def _users_part(error: BaseException) -> Any:
    """The traceback from the user's function on; the frames above it are the engine's and explain nothing."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__package__") in _PACKAGES:
        traceback = traceback.tb_next
    return traceback if traceback is not None else error.__traceback__


async def _try_again(run: Run, host: Host, outcome: State) -> bool:
    """Decide whether another attempt follows, and wait until it is due."""
    definition = run.definition
    if not outcome.is_failed():
        return False
    delay = definition.retry.delay_after(run.attempt, run.engine.chance)
    if delay is None or not await _condition_allows(run, host, outcome):
        return False
    run_logger(run).info("Retrying in %s seconds: %s", round(delay, 3), outcome.message)
    if delay > 0:
        run.become(StateType.SCHEDULED, "AwaitingRetry", outcome.message, outcome.data)
        due = Signal()
        timer = run.engine.clock.call_later(delay, due.complete)
        try:
            await _wait(run, host, due)
        finally:
            timer.cancel()
    return True


async def _condition_allows(run: Run, host: Host, outcome: State) -> bool:
    """Ask the task's ``retry_condition_fn``; one that fails is logged and means no."""
    condition = run.definition.retry_condition_fn
    if condition is None:
        return True
    try:
        answer = condition(run.definition, run, outcome)
        return bool(await host.join(cast(Any, answer)) if isawaitable(answer) else answer)
    except Exception:
        run_logger(run).exception("retry_condition_fn failed, so there is no retry.")
        return False


async def _settle(run: FlowRun, host: Host, value: Any) -> Any:
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
    await _wait_for_children(run, host)
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
            await _wait(run, host, item)
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
    values = {key: await host.offload(state.result) if state.is_elsewhere else state.data for key, state in states.items()}
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
        run.engine.live |= left


async def _wait_for_children(run: FlowRun, host: Host, timeout: float | None = None) -> None:
    while waiting := [child.future for child in tuple(run.live) if child.future is not None]:
        for future in waiting:
            if not future.done and not await _wait(run, host, future, timeout):
                run_logger(run).error("%s did not stop within %s seconds.", future.run, timeout)
                return
        if timeout is not None:
            return


async def _stop_children(run: FlowRun, host: Host) -> float:
    """Cancel what is left inside a flow that failed or was cancelled, and let it clean up.

    Returns:
        Seconds that the flow's runner gets to let go: none if somebody lost patience.
    """
    grace = run.engine.grace
    live = tuple(run.live)
    cancel_all(live, f"cancelled with {run}")
    try:
        if live:
            await _wait_for_children(run, host, grace)
    except (*host.cancellations, KeyboardInterrupt):
        grace = 0.0
        run_logger(run).warning("Interrupted again while stopping; not waiting for %d run(s).", len(run.live))
    for future in run.failures:
        future.seen = True
    run.failures.clear()
    return grace


def _end(run: Run, host: Host, error: BaseException) -> None:
    """Take the last state of a run that did not get to the end of its work."""
    if isinstance(error, Lost):
        run.become(StateType.CRASHED, None, str(error.crash), error.crash)
    elif isinstance(error, (*host.cancellations, Cancelled, GeneratorExit, KeyboardInterrupt)):
        reason = run.scope.cancel_reason or _CANCEL_REASONS.get(type(error), "cancelled by its caller")
        run.become(StateType.CANCELLED, None, reason, _chained(CancelledRun(f"{run} was {reason}."), error))
    elif isinstance(error, Exception) and _FAILED in TRANSITIONS[cast(State, run.state).type]:
        failed = _failed(run, error)
        run.become(_FAILED, failed._name, failed.message, failed.data)
    else:
        # Also what goes wrong in the engine itself, say while a retry is due: whoever waits for the run is told.
        crash = CrashedRun(f"{run} ended with {type(error).__name__}: {error}.", "exit")
        run.become(StateType.CRASHED, None, str(crash), _chained(crash, error))


_CANCEL_REASONS: dict[type[BaseException], str] = {
    KeyboardInterrupt: "interrupted (Ctrl-C)",
    GeneratorExit: "closed before its end",
}


def _chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


async def _call_hooks(run: Run, host: Host) -> None:
    """Call what the user wants called in this state; a hook that fails is logged and changes nothing."""
    state = cast(State, run.state)
    for hook in run.definition.hooks.get(state.type, ()):
        try:
            answer = run.call_in_context(partial(hook, run.definition, run, state))
            if isawaitable(answer):
                await host.join(cast(Any, answer))
        except (Exception, Cancelled):
            name = getattr(hook, "__name__", repr(hook))
            run_logger(run).exception("Hook %r failed; the run is not affected.", name)


def _finish(run: Run) -> None:
    """Let go of what the run held, tell the log, and let whoever waits go on."""
    state = run.state
    assert state is not None, "a run that ends has had states"
    _log_end(run, state)
    run.args, run.kwargs, run.after = (), _NOTHING, None
    future = run.future
    if future is None:
        if isinstance(run, FlowRun):
            run.home.live.discard(run)
        return
    home = run.home
    if state._type is not _COMPLETED and not state.is_cancelled():
        _remember_failure(run, future, home)
    home.live.discard(run)
    run.driver = run.interrupt = None
    future.complete()


def _remember_failure(run: Run, future: Future[Any], home: Any) -> None:
    if isinstance(home, FlowRun):
        home.failures.append(future)
    elif isinstance(run, TaskRun):
        engine_logger.debug("%s failed outside of any flow: only its future tells.", run)


def _log_end(run: Run, state: State) -> None:
    logger = task_runs if run.kind == "Task" else flow_runs
    completed = state._type is _COMPLETED
    if logger.isEnabledFor(INFO if completed else ERROR):
        run_logger(run).log(INFO if completed else ERROR, "Finished in state %r", state)
