"""The order of work: what happens to a run, from its first state to its last.

This is the only place where that order is written, for flows and tasks, synchronous and asynchronous, called and
submitted. It awaits nothing but its host; a host that never suspends turns it into plain synchronous code. It never
raises an `Exception`: how a run ended is its state, and whoever started it makes a value or an exception of that.
"""

from __future__ import annotations

from functools import partial
from types import CoroutineType
from typing import Any, cast

from penstock.errors import Cancelled, CancelledRun, Closed, CrashedRun, Lost, TimedOut
from penstock.flow_runs import FlowRun
from penstock.futures import Future
from penstock.hooks import call_hooks, condition_allows
from penstock.identity import path_of
from penstock.keeping import Keeper, size_of
from penstock.logging import ERROR, INFO, engine_logger, flow_runs, run_logger, task_runs
from penstock.policies import ending
from penstock.ports import Host
from penstock.recording import complete, find_room, make_known
from penstock.records import Run
from penstock.settling import settle, stop_children
from penstock.signals import Signal
from penstock.states import State, StateType, has_completed, may_follow, result_of
from penstock.task_runs import TaskRun
from penstock.upstreams import Skip, receive_inputs
from penstock.waiting import in_main_thread, wait_for, was_given_up

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
    recorder = run.engine.recorder
    try:
        if recorder is not None and recorder.room is not None:
            await find_room(run, host, recorder)
        run.become(_PENDING)
        if run.scope.cancel_reason is not None or _caller_is_stopped(run):
            raise host.cancellations[0](f"{run} was cancelled before it began")
        if run.after is not None or run.inputs:
            await _wait_for_others(run, host)
        if isinstance(run, FlowRun):
            await _begin_flow(run, host)
        if run.keeps:
            await _find_or_make(run, host, Keeper(run))
        else:
            await _attempts(run, host, None)
    except Skip as skip:
        run.become(StateType.SKIPPED, "UpstreamFailed", str(skip.error), skip.error)
    except BaseException as error:
        passing = error if _passes_on(run, error) else None
        with host.cleaning_up():
            grace = await stop_children(run, host) if isinstance(run, FlowRun) else 0.0
            if not run.is_final:
                _end(run, host, error)
            passing = await _leave(run, host, grace) or passing
    else:
        if run.definition.hooks or (isinstance(run, FlowRun) and run.runner_scope is not None):
            passing = await _leave(run, host, run.engine.grace)
    _finish(run)
    if passing is not None:
        try:
            raise passing
        finally:
            del passing  # or this frame and the traceback that holds it would keep each other alive


async def _wait_for_others(run: Run, host: Host) -> None:
    """Let a sibling go first where order is kept, and receive what the arguments stand for."""
    if run.after is not None:
        await wait_for(run, host, run.after)
    if run.inputs:
        await receive_inputs(run, host)


def _caller_is_stopped(run: Run) -> bool:
    parent = run.parent
    return parent is not None and (parent.scope.cancel_reason is not None or was_given_up())


async def _leave(run: Run, host: Host, grace: float) -> BaseException | None:
    """Do what is to be done once the run has its last state.

    Returns:
        What interrupted that. The run ends all the same; whoever interrupted it must not go unheard.
    """
    try:
        await call_hooks(run, host)
        if isinstance(run, FlowRun) and run.runner_scope is not None:
            await host.offload(run, partial(run.runner_scope.leave, grace))
    except Exception:
        run_logger(run).exception("Closing the task runner failed; the run is not affected.")
    except BaseException as interruption:
        return interruption
    return None


def _passes_on(run: Run, error: BaseException) -> bool:
    """Whether what ended the run must also end its caller, as Ctrl-C does, and a cancellation that came from there."""
    if isinstance(error, KeyboardInterrupt) and in_main_thread():
        return True  # Ctrl-C hits whatever the main thread is doing, also the first steps of a run that it submits
    if run.future is not None or isinstance(error, Exception | Lost):
        return False
    if isinstance(error, Cancelled):
        return _caller_is_stopped(run)
    return True


def value_of(run: Run) -> Any:
    """What a directly called run gives to its caller.

    Raises:
        BaseException: What the run ended with, if not COMPLETED.
    """
    return result_of(run.states)


async def _begin_flow(run: FlowRun, host: Host) -> None:
    if flow_runs.isEnabledFor(INFO):
        run_logger(run).info("Beginning flow run %r for flow %r", run.name, run.flow.name)
    if run.engine.recorder is not None and run.parent is None:
        await make_known(run, host, run.engine.recorder)
    run.flow.validate(run)
    if run.runner_scope is not None:
        await host.offload(run, partial(run.runner_scope.enter, run.engine))


async def _find_or_make(run: Run, host: Host, keeper: Keeper) -> None:
    """Take a result that was stored before; if there is none, make and store it while everybody else waits."""
    try:
        found, value = await keeper.find(host)
        if found:
            await _take(run, host, State(_COMPLETED, "Cached", keeper.finding, value))
        else:
            await _attempts(run, host, keeper)
    finally:
        if keeper.leave():
            await host.offload(run, keeper.let_go)


async def _attempts(run: Run, host: Host, keeper: Keeper | None) -> None:
    """Try until the run has ended or the retries are used up."""
    definition = run.definition
    if run.flow_run is not None and run.flow_run.past is not None:
        await _go_on(run, host)
    while True:
        if host.admits:
            await host.admit(run)
        run.begin_attempt()
        run.become(_RUNNING, None if run.attempt == 1 else "Retrying")
        if definition.hooks:
            await call_hooks(run, host)
        try:
            value = await host.perform(run)
            if isinstance(run, FlowRun) or type(value) is CoroutineType:
                value = await _end_value(run, host, value)
            if run.cancel_reason is not None:
                raise Cancelled(run.cancel_reason)
            if keeper is not None or run.engine.spill or isinstance(value, State):
                value = await _keep(run, host, keeper, value)
        except Exception as error:
            value = await _after(run, host, error)
        except Lost as lost:
            _survive(run, lost)
            continue
        recorder = run.engine.recorder
        if not isinstance(value, State) and (recorder is None or not recorder.comes_first(run)):
            run.become(_COMPLETED, None, None, value)  # as below, and half a microsecond sooner
            return
        outcome = value if isinstance(value, State) else State(_COMPLETED, data=value)
        if not await _try_again(run, host, outcome):
            await _take(run, host, outcome)
            return


async def _take(run: Run, host: Host, outcome: State) -> None:
    """Let the run take the state that its work amounts to; COMPLETED only once it is written, where it has to last."""
    recorder = run.engine.recorder
    if recorder is not None and outcome.is_completed() and recorder.comes_first(run):
        await complete(run, host, outcome)
    else:
        run.take_on(outcome)


def _survive(run: Run, lost: Lost) -> None:
    """Let another attempt follow one that was lost, if the run may have one."""
    if not run.survives_crash(lost.crash):
        raise lost
    run_logger(run).warning("Lost its worker, trying again: %s", lost.crash)


async def _end_value(run: Run, host: Host, value: Any) -> Any:
    """Await what the function should have awaited, and settle what a flow left behind."""
    if type(value) is CoroutineType:
        value = await host.join(run, value)
    return await settle(run, host, value) if isinstance(run, FlowRun) else value


async def _keep(run: Run, host: Host, keeper: Keeper | None, value: Any) -> Any:
    """Bring a value to where it shall lie, before anybody is told that there is one; a state is the run's own end."""
    if isinstance(value, State):
        return ending(value)
    place = keeper.keep if keeper is not None else partial(run.engine.spill.place, run)
    run.storing = True
    try:
        return await host.offload(run, partial(place, value), size_of(value))
    finally:
        run.storing = False


async def _after(run: Run, host: Host, error: Exception) -> State:
    """Clean up after an attempt that failed, and say what it amounts to."""
    if run.cancel_reason is not None:
        # Its children end as cancelled, which the function may have taken for an ordinary failure.
        raise Cancelled(run.cancel_reason) from error
    if isinstance(run, FlowRun):
        await stop_children(run, host)
    return _failed(run, error)


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
    if delay is None or not await condition_allows(run, host, outcome):
        return False
    run_logger(run).info("Retrying in %s seconds: %s", round(delay, 3), outcome.message)
    if delay > 0:
        await _rest(run, host, delay, outcome)
    return True


async def _rest(run: Run, host: Host, delay: float, outcome: State) -> None:
    """Wait until the next attempt is due."""
    run.due = run.engine.clock.time() + delay
    run.become(StateType.SCHEDULED, "AwaitingRetry", outcome.message, outcome.data)
    due = Signal()
    timer = run.engine.clock.call_later(delay, due.complete)
    try:
        await wait_for(run, host, due)
    finally:
        timer.cancel()


async def _go_on(run: Run, host: Host) -> None:
    """Count on from the attempts of the run that this one continues, if that was interrupted, and rest as it did."""
    past = cast(FlowRun, run.around or run.flow_run).past
    before = None if past is None else past.interrupted(path_of(run))
    if before is None:
        return
    run.attempt, run.used = before.attempts, before.used
    delay = 0.0 if before.due is None else before.due - run.engine.clock.time()
    if delay > 0:
        await _rest(run, host, delay, State(_FAILED, None, "It was waiting for a retry when it was interrupted."))


def _end(run: Run, host: Host, error: BaseException) -> None:
    """Take the last state of a run that did not get to the end of its work."""
    if isinstance(error, Lost):
        run.become(StateType.CRASHED, None, str(error.crash), error.crash)
    elif isinstance(error, (*host.cancellations, Cancelled, GeneratorExit, KeyboardInterrupt)):
        reason = run.scope.cancel_reason or _CANCEL_REASONS.get(type(error), "cancelled by its caller")
        run.become(StateType.CANCELLED, None, reason, _chained(CancelledRun(f"{run} was {reason}."), error))
    elif isinstance(error, Exception) and may_follow(run.states, _FAILED):
        run.take_on(_failed(run, error))
    else:
        # Also what goes wrong in the engine itself, say while a retry is due: whoever waits for the run is told.
        crash = CrashedRun(f"{run} ended with {type(error).__name__}: {error}.", "exit")
        run.become(StateType.CRASHED, None, str(crash), _chained(crash, error))


_CANCEL_REASONS: dict[type[BaseException], str] = {
    KeyboardInterrupt: "interrupted (Ctrl-C)",
    GeneratorExit: "closed before its end",
    Closed: "closed before its end",
}


def _chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def _finish(run: Run) -> None:
    """Let go of what the run held, tell the log, and let whoever waits go on."""
    completed = has_completed(run.states)
    _log_end(run, completed)
    run.args, run.kwargs = (), _NOTHING
    if run.trace is not None:
        run.trace = None
    future = run.future
    if future is None:
        if isinstance(run, FlowRun):
            run.home.live.discard(run)
        return
    home = run.home
    if not completed and not _was_cancelled(run):
        _remember_failure(run, future, home)
    home.live.discard(run)
    run.driver = run.interrupt = run.after = run.context = None
    _untie(run, completed)
    future.complete()


def _untie(run: Run, completed: bool) -> None:
    """Cut the circles that a run is part of, so that its value is gone with the last future that somebody holds.

    Else megabytes would wait for the garbage collector, which counts objects and not bytes: 73 MB instead of 1 for
    10,000 results of one megabyte, each dropped at once (benchmarks/memory.py). The future knows the run, so the run
    forgets the future. A submitted run is its own scope; of one that did not complete the function may still be
    running on a thread, and what it calls has to find that scope and be refused.
    """
    run.future = _ENDED
    if completed and isinstance(run, TaskRun) and run.parent is not None:
        run.scope = run.parent.scope
        run.life = None


_ENDED: Future[Any] = Future(cast(Any, None))
_ENDED.complete()


def _remember_failure(run: Run, future: Future[Any], home: Any) -> None:
    if isinstance(home, FlowRun):
        home.failures.append(future)
    elif isinstance(run, TaskRun):
        engine_logger.debug("%s failed outside of any flow: only its future tells.", run)


def _was_cancelled(run: Run) -> bool:
    return cast(State, run.state).is_cancelled()


def _log_end(run: Run, completed: bool) -> None:
    logger = task_runs if run.kind == "Task" else flow_runs
    level = INFO if completed or _was_cancelled(run) else ERROR
    if logger.isEnabledFor(level):
        state = cast(State, run.state)
        # What was started by itself may have nobody to whom the error goes on, and who would show where it was raised.
        is_apart = level is ERROR and run.parent is None and run.future is not None
        run_logger(run).last_line(level, "Finished in state %r", state, error=state.error if is_apart else None)
