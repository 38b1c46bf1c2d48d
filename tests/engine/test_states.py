"""The state machine: only the table's steps, nothing after the end, every step counted."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock import Engine, State, task
from penstock.calls import make_task_run
from penstock.errors import CancelledRun, CrashedRun, FailedRun, IllegalTransition, UnfinishedRun, UpstreamFailed
from penstock.ports import Reference
from penstock.states import (
    TERMINAL,
    TRANSITIONS,
    AwaitingRetry,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Pending,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    StateType,
    check_transition,
)

# The rules in a second notation, written down from design.md section 4 and not from the table.
BEGINNINGS = {"SCHEDULED", "PENDING"}
ENDS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED", "SKIPPED"}


@task
def _work() -> None: ...


class Machine(RuleBasedStateMachine):
    """A run, beside a list of the steps that it took."""

    @initialize()
    def begin(self) -> None:
        self.run = make_task_run(_work, (), {}, None)
        self.taken: list[StateType] = []

    @rule(kind=st.sampled_from(StateType))
    def step(self, kind: StateType) -> None:
        before = (self.run.state, list(self.run.history), self.run.sequence)
        if self._allowed(kind):
            self.run.become(kind)
            self.taken.append(kind)
            assert self.run.state is not None
            assert self.run.state.type is kind
            assert self.run.sequence == before[2] + 1
        else:
            with pytest.raises(IllegalTransition, match=r"cannot become"):
                self.run.become(kind)
            assert (self.run.state, list(self.run.history), self.run.sequence) == before

    def _allowed(self, kind: StateType) -> bool:
        if not self.taken:
            return kind.value in BEGINNINGS
        last = self.taken[-1].value
        if last in ENDS:
            return False
        return kind in TRANSITIONS[self.taken[-1]]

    @invariant()
    def history_is_the_steps(self) -> None:
        if hasattr(self, "run"):
            assert [state.type for state in self.run.history] == self.taken
            assert self.run.is_final == bool(self.taken and self.taken[-1].value in ENDS)

    @invariant()
    def time_never_goes_back(self) -> None:
        if hasattr(self, "run"):
            times = [state.timestamp for state in self.run.history]
            assert None not in times
            assert times == sorted(times)  # type: ignore[type-var]


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=500, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)  # 25,000 steps


def test_the_table_knows_every_type_and_ends_where_the_design_says() -> None:
    assert set(TRANSITIONS) == {None, *StateType}
    assert {kind.value for kind in TERMINAL} == ENDS
    assert all(not TRANSITIONS[kind] for kind in TERMINAL)
    assert {kind.value for kind in TRANSITIONS[None]} == BEGINNINGS


def test_every_state_can_reach_an_end() -> None:
    for start in StateType:
        reached, frontier = {start}, [start]
        while frontier:
            for kind in TRANSITIONS[frontier.pop()] - reached:
                reached.add(kind)
                frontier.append(kind)
        assert reached & TERMINAL, start


def test_a_run_can_crash_from_every_state_that_is_no_end() -> None:
    """Whatever goes wrong under a run, there is a state that says so: nothing is left hanging."""
    for kind in set(StateType) - TERMINAL:
        assert StateType.CRASHED in TRANSITIONS[kind], kind


@pytest.mark.parametrize("name", ["type", "name", "message", "data", "timestamp"])
def test_a_state_does_not_change(name: str) -> None:
    state = Completed(data=1)
    with pytest.raises(AttributeError):
        setattr(state, name, None)


def test_check_transition_names_both_states() -> None:
    check_transition(Running(), Completed())
    with pytest.raises(IllegalTransition, match=r"Completed\(\).*Retrying\(\)"):
        check_transition(Completed(), Retrying())


@pytest.mark.parametrize(
    ("state", "error"),
    [(Failed, FailedRun), (Crashed, CrashedRun), (Cancelled, CancelledRun), (Skipped, UpstreamFailed)],
)
def test_an_end_without_an_exception_raises_the_one_of_its_kind(state: object, error: type[Exception]) -> None:
    made: State = state(message="because")  # type: ignore[operator]
    with pytest.raises(error, match="because"):
        made.result()
    assert isinstance(made.result(raise_on_failure=False), error)


def test_an_end_with_an_exception_raises_that_very_object() -> None:
    error = ValueError("boom")
    with pytest.raises(ValueError, match="boom") as caught:
        Failed(data=error).result()
    assert caught.value is error


@pytest.mark.parametrize("state", [Scheduled(), Pending(), Running(), AwaitingRetry(), Retrying()])
def test_a_state_that_is_no_end_has_no_result(state: State) -> None:
    assert not state.is_final()
    with pytest.raises(UnfinishedRun, match="Wait for its future"):
        state.result()


def test_names_and_questions() -> None:
    assert AwaitingRetry().name == "AwaitingRetry"
    assert AwaitingRetry().is_scheduled()
    assert Retrying().is_running()
    assert Skipped().name == "UpstreamFailed"
    assert Completed(name="Cached").name == "Cached"
    assert repr(Failed(message="no")) == "Failed('no')"
    questions = [name for name in dir(State) if name.startswith("is_") and name not in ("is_final", "is_elsewhere")]
    for kind in StateType:
        yes = [name for name in questions if getattr(State(kind), name)()]
        assert yes == [f"is_{kind.value.lower()}"]


def test_equality_and_hash_agree() -> None:
    assert Completed(data=1) == Completed(data=1)
    assert hash(Completed()) == hash(Completed())
    assert Completed() != Failed()
    assert Completed() != "Completed"


class _Elsewhere(Reference):
    def load(self) -> str:
        return "loaded"


def test_a_value_that_lies_elsewhere_is_loaded_when_somebody_asks() -> None:
    state = Completed(data=_Elsewhere())
    assert state.is_elsewhere
    assert state.result() == "loaded"


def test_a_run_carries_the_engines_time(engine: Engine) -> None:
    run = make_task_run(_work, (), {}, None)
    run.become(StateType.PENDING)
    assert run.state is not None
    assert run.state.timestamp == engine.clock.time()
