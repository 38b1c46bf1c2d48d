"""Where a run waits for its history: hardly ever, and never without saying why."""

from __future__ import annotations

from functools import partial
from typing import Any

from penstock.errors import HistoryWriteError, ResumeConflict
from penstock.flow_runs import FlowRun
from penstock.ports import Host, Recorder
from penstock.records import Run
from penstock.signals import Signal
from penstock.states import State, StateType
from penstock.waiting import was_given_up

__all__ = ("complete", "find_room", "make_known")


async def find_room(run: Run, host: Host, recorder: Recorder) -> None:
    """Wait with a run's first state until what has begun before it is written; bounds what waits in memory.

    Raises:
        BaseException: What interrupted the wait. The run has its first state then, and can end.
    """
    while (room := recorder.room) is not None:
        interruption = await _happens(run, room, host)
        if interruption is not None:
            run.become(StateType.PENDING)
            raise interruption


async def make_known(run: FlowRun, host: Host, recorder: Recorder) -> None:
    """Let the history know how to continue a root flow run, before its function can change what it was given.

    Raises:
        ResumeConflict: If the run that this one would continue is being continued already.
        HistoryWriteError: If it cannot be known whether it is.
    """
    await host.offload(run, partial(recorder.begin_flow, run))
    if run.resumes is not None:
        recorded = recorder.recorded(run)
        await host.wait(run, recorded)
        _refuse(run, recorded.value)


async def complete(run: Run, host: Host, state: State) -> None:
    """Have COMPLETED written, and let the run take it then; the value is where it shall lie.

    Args:
        run: A run whose end the history wants to know first.
        host: Its host.
        state: What it shall take.

    Raises:
        HistoryWriteError: If it cannot be written.
        BaseException: What interrupted the wait. The run has completed all the same: once COMPLETED may be written,
            nothing else may become of it.
    """
    recorder: Any = run.engine.recorder
    written = recorder.complete(run, state.taken_at(run.engine.clock.time()))
    interruption = await _happens(run, written, host)
    _refuse(run, written.value)
    run.take_on(state)
    if interruption is not None:
        raise interruption


async def _happens(run: Run, signal: Signal, host: Host) -> BaseException | None:
    """Wait for a signal, whoever is cancelled meanwhile; gives what cancelled the wait."""
    interruption = None
    while not signal.done:
        try:
            with host.cleaning_up():
                await host.wait(run, signal)
        except host.cancellations as error:
            if was_given_up():
                raise  # nobody waits for the run any more, and no wait of its lasts
            interruption = error
    return interruption


def _refuse(run: Run, error: BaseException | None) -> None:
    if isinstance(error, ResumeConflict):
        raise error
    if error is not None:
        raise HistoryWriteError(f"{run} must not go on before it is recorded, and it cannot be: {error}") from error
