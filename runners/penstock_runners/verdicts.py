"""The outcomes that no worker makes: of calls that were taken back, killed, frozen, or never had a worker."""

from __future__ import annotations

from penstock.errors import Cancelled, CrashedRun, RunnerError, SerializationError, TimedOut
from penstock.ports import Call, Outcome
from penstock_runners.members import Member, Shipment, Verdict

__all__ = ("broken", "cancelled", "copy", "frozen", "never_ready", "never_started", "timed_out")


def copy(refusal: SerializationError) -> SerializationError:
    """The same refusal for one more call."""
    another = SerializationError(*refusal.args)
    another.__cause__ = refusal.__cause__
    return another


def cancelled(shipment: Shipment, _: Call) -> Outcome:
    """The call was taken back, or its worker killed for it."""
    return Outcome(error=Cancelled(f"task {shipment.task.name!r} was cancelled"))


def timed_out(shipment: Shipment, call: Call) -> Outcome:
    """The worker was killed because its call took too long."""
    worker = "" if shipment.member is None else shipment.member.name
    text = f"task {shipment.task.name!r} exceeded its timeout of {shipment.task.timeout:g} s"
    error = TimedOut(f"{text}; its worker ({worker}) was killed")
    error.run_id = str(call.run.id)
    return Outcome(error=error, worker=worker)


def never_ready(member: Member, code: int) -> RunnerError:
    """What is known of a worker that ended while it started."""
    return RunnerError(f"the worker ({member.name}) ended with code {code} before it was ready; its output says why")


def never_started(error: BaseException) -> Verdict:
    """There is no worker, and none can be started."""

    def make(shipment: Shipment, _: Call) -> Outcome:
        crash = CrashedRun(
            f"task {shipment.task.name!r} crashed: no worker process could be started: {type(error).__name__}: {error}",
            "start_failed",
            entered=False,
            hopeless=True,
        )
        crash.__cause__ = error
        return Outcome(crash=crash)

    return make


def broken(error: BaseException) -> Verdict:
    """The pump has failed."""

    def make(shipment: Shipment, _: Call) -> Outcome:
        crash = CrashedRun(f"task {shipment.task.name!r} crashed: the runner itself failed: {error!r}", "runner")
        crash.__cause__ = error
        return Outcome(crash=crash)

    return make


def frozen(lease: float) -> Verdict:
    """The worker was stopped for longer than the lease."""

    def make(shipment: Shipment, _: Call) -> Outcome:
        name = "its worker" if shipment.member is None else shipment.member.name
        text = f"{name} was stopped by a signal for more than the lease of {lease:g} s, and was killed"
        return Outcome(crash=CrashedRun(f"task {shipment.task.name!r} crashed: {text}", "frozen"), worker=name)

    return make
