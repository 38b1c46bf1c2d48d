"""The state machine, as a table.

Rule 1: everything that decides which state may follow which stands in this file, and in `TRANSITIONS` if it can.
Rule 2: a state never changes; a run takes a new one. Only `records.Run.become` gives a run a state.
Rule 3: a terminal state is the last one. A retry is a new attempt of the same run, before its terminal state; a run
that is executed again after its terminal state is a new run.
Rule 4: the value is where its state says it is before the state is taken: whoever sees COMPLETED can have the value.
Rule 5: names (Retrying, TimedOut, ...) are for people. Decisions are made on types.

The state diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from penstock.errors import CancelledRun, CrashedRun, FailedRun, IllegalTransition, UnfinishedRun, UpstreamFailed
from penstock.ports import Reference

__all__ = (
    "TERMINAL",
    "TRANSITIONS",
    "AwaitingConcurrencySlot",
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Late",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "Skipped",
    "State",
    "StateType",
    "States",
    "check_transition",
    "has_completed",
    "has_ended",
    "is_elsewhere",
    "may_follow",
    "result_of",
    "sequence_of",
)


class StateType(str, Enum):
    """What a state means to the engine."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"

    # Enum's own hash is a Python function; the table is asked several times for every task.
    __hash__ = str.__hash__


_S = StateType
TERMINAL: frozenset[StateType] = frozenset({_S.COMPLETED, _S.FAILED, _S.CRASHED, _S.CANCELLED, _S.SKIPPED})

TRANSITIONS: Mapping[StateType | None, frozenset[StateType]] = MappingProxyType(
    {
        None: frozenset({_S.SCHEDULED, _S.PENDING}),
        _S.SCHEDULED: frozenset({_S.SCHEDULED, _S.PENDING, _S.RUNNING, _S.CANCELLING, _S.CANCELLED, _S.CRASHED}),
        _S.PENDING: frozenset({_S.PENDING, _S.SCHEDULED, _S.RUNNING, _S.PAUSED, _S.CANCELLING}) | TERMINAL,
        _S.RUNNING: frozenset(
            {_S.RUNNING, _S.SCHEDULED, _S.PAUSED, _S.CANCELLING, _S.COMPLETED, _S.FAILED, _S.CRASHED, _S.CANCELLED}
        ),
        _S.PAUSED: frozenset({_S.RUNNING, _S.SCHEDULED, _S.CANCELLING, _S.CANCELLED, _S.FAILED, _S.CRASHED}),
        _S.CANCELLING: frozenset({_S.CANCELLED, _S.CRASHED}),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
        _S.CRASHED: frozenset(),
        _S.CANCELLED: frozenset(),
        _S.SKIPPED: frozenset(),
    }
)
"""From each state's type (None: no state yet) to the types that may follow."""

States: TypeAlias = tuple[Any, ...]
"""A state and those before it, the latest last: type, name, message, data and timestamp of each, in one flat tuple.

Runs keep their states as one of these. The garbage collector soon leaves a tuple of plain values alone, but would look
through objects for the states of a hundred thousand runs, again and again (benchmarks/scaling.py). A `State` is a view
of the latest, made when somebody asks.
"""

_TYPE, _NAME, _MESSAGE, _DATA, _TIMESTAMP = range(-5, 0)
_EACH = 5


class _Fields(NamedTuple):
    """The values of one state among `States`."""

    type: str
    name: str | None
    message: str | None
    data: Any
    timestamp: float | None


class State:
    """What a run is doing, or how it ended. Immutable.

    Args:
        type: What the state means to the engine.
        name: What people call it; the type's own name by default.
        message: One sentence more, or None.
        data: The value of a COMPLETED run, or a reference to it; the exception of one that did not complete.
        timestamp: When the run took the state, in seconds since the epoch; None for a state no run has taken yet.
        previous: The state that the run had before.
    """

    __slots__ = ("_states",)

    def __init__(
        self,
        type: StateType,  # noqa: A002 (the field's name in the peer's API)
        name: str | None = None,
        message: str | None = None,
        data: Any = None,
        timestamp: float | None = None,
        previous: State | None = None,
    ) -> None:
        past = () if previous is None else previous._states
        self._states: States = (*past, type._value_, name, message, data, timestamp)

    @classmethod
    def latest(cls, states: States) -> State:
        """The latest of some states."""
        state = cls.__new__(cls)
        state._states = states
        return state

    @property
    def _fields(self) -> _Fields:
        return _Fields(*self._states[-_EACH:])

    @property
    def type(self) -> StateType:
        """What the state means to the engine."""
        return StateType(self._fields.type)

    @property
    def name(self) -> str:
        """What people call the state."""
        return self.own_name or self._fields.type.capitalize()

    @property
    def own_name(self) -> str | None:
        """The name, if it is another than that of the type."""
        return self._fields.name

    @property
    def message(self) -> str | None:
        """One sentence more."""
        return self._fields.message

    @property
    def data(self) -> Any:
        """The value, a reference to it, or the exception; `result` tells them apart."""
        return self._fields.data

    @property
    def timestamp(self) -> float | None:
        """When the run took this state, in seconds since the epoch."""
        return self._fields.timestamp

    def taken_at(self, timestamp: float) -> State:
        """The same state, taken at a given time (seconds since the epoch)."""
        return State(self.type, self.own_name, self.message, self.data, timestamp)

    def result(self, raise_on_failure: bool = True) -> Any:
        """The run's value.

        Args:
            raise_on_failure: Whether to raise what the run failed with, or return it.

        Returns:
            The value of a COMPLETED run, loaded first if it lies elsewhere; otherwise the exception, if not raised.

        Raises:
            UnfinishedRun: If the state is not terminal.
            BaseException: What the user's function raised, `CrashedRun`, `CancelledRun` or `UpstreamFailed`.
        """
        return result_of(self._states, raise_on_failure)

    @property
    def previous(self) -> State | None:
        """The state that the run had before this one."""
        past = self._states[:-_EACH]
        return State.latest(past) if past else None

    @property
    def sequence(self) -> int:
        """How many states the run has had, this one included."""
        return sequence_of(self._states)

    @property
    def error(self) -> BaseException:
        """The exception that stands for a terminal state other than COMPLETED."""
        if isinstance(self.data, BaseException):
            return self.data
        kind = _ERRORS[self.type]
        return kind(self.message or f"The run ended as {self.name} without an exception.")

    @property
    def is_elsewhere(self) -> bool:
        """Whether `data` is a reference, which `result` has to load."""
        return is_elsewhere(self._states)

    def is_scheduled(self) -> bool:
        """Whether the run waits for a time."""
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        """Whether the run waits for inputs or room."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """Whether the run's function is executing."""
        return self.type is StateType.RUNNING

    def is_paused(self) -> bool:
        """Whether the run waits for somebody."""
        return self.type is StateType.PAUSED

    def is_cancelling(self) -> bool:
        """Whether the run was told to stop and has not yet."""
        return self.type is StateType.CANCELLING

    def is_completed(self) -> bool:
        """Whether the run succeeded."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Whether the run's function failed."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Whether the infrastructure under the run failed."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self.type is StateType.CANCELLED

    def is_skipped(self) -> bool:
        """Whether the run never started because a run that it depends on did not complete."""
        return self.type is StateType.SKIPPED

    def is_final(self) -> bool:
        """Whether the state is terminal."""
        return has_ended(self._states)

    def __repr__(self) -> str:
        return f"{self.name}({self.message!r})" if self.message else f"{self.name}()"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        mine = (self.type, self.name, self.message, self.timestamp)
        return mine == (other.type, other.name, other.message, other.timestamp) and self.data is other.data

    def __hash__(self) -> int:
        return hash((self.type, self.name, self.message, self.timestamp))


_ERRORS: Mapping[StateType, type[FailedRun] | type[CrashedRun] | type[CancelledRun] | type[UpstreamFailed]] = {
    StateType.FAILED: FailedRun,
    StateType.CRASHED: CrashedRun,
    StateType.CANCELLED: CancelledRun,
    StateType.SKIPPED: UpstreamFailed,
}


# The same table for types as `States` have them, which are texts: equal to its keys, and of the same hash.
_FOLLOWERS: Mapping[str | None, frozenset[StateType]] = dict[str | None, frozenset[StateType]](TRANSITIONS.items())


def may_follow(states: States, type: StateType) -> bool:  # noqa: A002 (the field's name in State)
    """Whether the table has a step from the latest of some states, or from none, to a type."""
    return type in _FOLLOWERS[states[_TYPE] if states else None]


def sequence_of(states: States) -> int:
    """How many they are."""
    return len(states) // _EACH


def has_ended(states: States) -> bool:
    """Whether a run with these states takes no other."""
    return bool(states) and states[_TYPE] in TERMINAL


def has_completed(states: States) -> bool:
    """Whether a run with these states has succeeded."""
    kind: str | None = states[_TYPE] if states else None
    return kind == _S.COMPLETED


def is_elsewhere(states: States) -> bool:
    """Whether the value of a run with these states has to be loaded."""
    return bool(states) and isinstance(states[_DATA], Reference)


def result_of(states: States, raise_on_failure: bool = True) -> Any:
    """What `State.result` gives for the latest of some states."""
    if has_completed(states):
        data = states[_DATA]
        return data.load() if isinstance(data, Reference) else data
    state = State.latest(states)
    if not state.is_final():
        raise UnfinishedRun(f"The run is {state}; it has no result until it ends. Wait for its future first.")
    if raise_on_failure:
        raise state.error
    return state.error


def check_transition(old: State | None, new: State) -> None:
    """Refuse a step that the table does not have.

    Raises:
        IllegalTransition: If ``new`` may not follow ``old``.
    """
    if not may_follow(() if old is None else old._states, new.type):
        raise IllegalTransition(f"A run that is {old} cannot become {new}: see penstock.states.TRANSITIONS.")


def Scheduled(*, name: str | None = None, message: str | None = None, data: Any = None) -> State:  # noqa: N802
    """The run waits for a time."""
    return State(StateType.SCHEDULED, name, message, data)


def AwaitingRetry(*, message: str | None = None, data: Any = None) -> State:  # noqa: N802
    """An attempt failed and the next one is due later."""
    return State(StateType.SCHEDULED, "AwaitingRetry", message, data)


def Late(*, message: str | None = None) -> State:  # noqa: N802
    """The run's time has passed and it has not started."""
    return State(StateType.SCHEDULED, "Late", message)


def Pending(*, name: str | None = None, message: str | None = None) -> State:  # noqa: N802
    """The run waits for inputs or room."""
    return State(StateType.PENDING, name, message)


def AwaitingConcurrencySlot(*, message: str | None = None) -> State:  # noqa: N802
    """The run waits for a slot of a concurrency limit."""
    return State(StateType.PENDING, "AwaitingConcurrencySlot", message)


def Running(*, name: str | None = None, message: str | None = None) -> State:  # noqa: N802
    """The run's function is executing."""
    return State(StateType.RUNNING, name, message)


def Retrying(*, message: str | None = None) -> State:  # noqa: N802
    """The run's function is executing, not for the first time."""
    return State(StateType.RUNNING, "Retrying", message)


def Paused(*, name: str | None = None, message: str | None = None) -> State:  # noqa: N802
    """The run waits for somebody."""
    return State(StateType.PAUSED, name, message)


def Cancelling(*, message: str | None = None) -> State:  # noqa: N802
    """The run was told to stop and has not yet."""
    return State(StateType.CANCELLING, None, message)


def Completed(*, name: str | None = None, message: str | None = None, data: Any = None) -> State:  # noqa: N802
    """The run succeeded."""
    return State(StateType.COMPLETED, name, message, data)


def Failed(*, name: str | None = None, message: str | None = None, data: Any = None) -> State:  # noqa: N802
    """The run's function failed."""
    return State(StateType.FAILED, name, message, data)


def Crashed(*, name: str | None = None, message: str | None = None, data: Any = None) -> State:  # noqa: N802
    """The infrastructure under the run failed."""
    return State(StateType.CRASHED, name, message, data)


def Cancelled(*, name: str | None = None, message: str | None = None, data: Any = None) -> State:  # noqa: N802
    """The run was cancelled."""
    return State(StateType.CANCELLED, name, message, data)


def Skipped(*, name: str | None = "UpstreamFailed", message: str | None = None, data: Any = None) -> State:  # noqa: N802
    """The run never started because a run that it depends on did not complete."""
    return State(StateType.SKIPPED, name, message, data)
