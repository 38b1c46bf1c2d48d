"""When a run is tried again: the decision as a table, and whole sequences in virtual time in every world."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import INLINE, World

from penstock import Engine, State, flow, task
from penstock.errors import ConfigurationError, CrashedRun, FailedRun
from penstock.policies import MAX_DELAYS, RetryPolicy, aggregate
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock.states import Cancelled, Completed, Failed, Paused, Skipped
from penstock.tasks import exponential_backoff
from penstock.testing import VirtualClock, penstock_test_harness

DELAYS: list[tuple[Any, int, list[float]]] = [
    (60, 3, [60, 60, 60]),
    (2.5, 2, [2.5, 2.5]),
    ([1, 10, 100], 3, [1, 10, 100]),
    ([5, 50], 4, [5, 50, 50, 50]),
    (exponential_backoff(10), 4, [10, 20, 40, 80]),
    (lambda retries: [3600.0 * (retries - n) for n in range(retries)], 3, [10800, 7200, 3600]),
    (lambda retries: 7, 2, [7, 7]),
    (None, 2, [0, 0]),
]
NAMES = ["fixed", "fraction", "list", "short list", "exponential", "callable list", "callable number", "none"]


class Attempts:
    """A body that fails so many times, and the virtual times at which it was entered."""

    def __init__(self, clock: VirtualClock, failures: int) -> None:
        self._clock = clock
        self._failures = failures
        self.times: list[float] = []

    async def body(self) -> str:
        self.times.append(self._clock.monotonic())
        if len(self.times) <= self._failures:
            raise ValueError(f"attempt {len(self.times)}")
        return "value"

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


@pytest.mark.parametrize(("delay", "retries", "expected"), DELAYS, ids=NAMES)
class TestSequences:
    """Hours of delays, in no time, for whatever runs."""

    def test_of_a_called_task(
        self, world: World, default_engine: Engine, clock: VirtualClock, delay: Any, retries: int, expected: list[float]
    ) -> None:
        attempts = Attempts(clock, retries)
        work = task(world.function(attempts.body), retries=retries, retry_delay_seconds=delay)

        async def body() -> Any:
            return await world.get(work())

        assert world.run(flow(world.function(body))) == "value"
        assert attempts.pauses == pytest.approx(expected)

    def test_of_a_submitted_task(
        self, world: World, engine: Engine, clock: VirtualClock, delay: Any, retries: int, expected: list[float]
    ) -> None:
        attempts = Attempts(clock, retries)
        work = task(world.function(attempts.body), retries=retries, retry_delay_seconds=delay)

        async def body() -> Any:
            return await world.get(work.submit())

        assert world.run(flow(world.function(body))) == "value"
        assert attempts.pauses == pytest.approx(expected)

    def test_of_a_flow(
        self, world: World, default_engine: Engine, clock: VirtualClock, delay: Any, retries: int, expected: list[float]
    ) -> None:
        attempts = Attempts(clock, retries)
        run = flow(world.function(attempts.body), retries=retries, retry_delay_seconds=delay)
        assert world.run(run) == "value"
        assert attempts.pauses == pytest.approx(expected)

    def test_until_the_retries_are_used_up(
        self, world: World, default_engine: Engine, clock: VirtualClock, delay: Any, retries: int, expected: list[float]
    ) -> None:
        attempts = Attempts(clock, failures=1000)
        work = task(world.function(attempts.body), retries=retries, retry_delay_seconds=delay)

        async def body() -> Any:
            return await world.get(work.submit())

        with pytest.raises(ValueError, match=f"attempt {retries + 1}"):
            world.run(flow(world.function(body)))
        assert attempts.pauses == pytest.approx(expected)


def test_an_async_task_of_a_synchronous_flow_is_retried(engine: Engine, clock: VirtualClock) -> None:
    called, submitted = Attempts(clock, 2), Attempts(clock, 2)

    @flow
    def both() -> list[Any]:
        options: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [30, 300]}
        future = task(submitted.body, **options).submit()
        return [task(called.body, **options)(), future.result()]

    assert both() == ["value", "value"]
    assert called.pauses == submitted.pauses == [30, 300]


def test_retries_of_parallel_runs_keep_their_own_time(engine: Engine, clock: VirtualClock) -> None:
    """Virtual time is deterministic: each of fifty runs meets its own delays to the second."""
    all_attempts = [Attempts(clock, 3) for _ in range(50)]

    @task(retries=3)
    def work(number: int) -> str:
        attempts = all_attempts[number]
        attempts.times.append(clock.monotonic())
        if len(attempts.times) <= 3:
            raise ValueError(number)
        return "value"

    @flow
    def fan_out() -> list[str]:
        return [
            future.result()
            for future in [
                work.with_options(retry_delay_seconds=[number + 1, 100, 1000]).submit(number) for number in range(50)
            ]
        ]

    assert fan_out() == ["value"] * 50
    if not engine.runner.ordered:
        assert [attempts.pauses for attempts in all_attempts] == [[n + 1, 100, 1000] for n in range(50)]
        assert clock.monotonic() == 1150


def test_the_states_of_a_run_that_is_retried(world: World, engine: Engine, clock: VirtualClock) -> None:
    attempts = Attempts(clock, 2)
    work = task(world.function(attempts.body), retries=2, retry_delay_seconds=[0, 9])
    seen: list[Any] = []

    async def body() -> None:
        future = work.submit()
        await world.get(future)
        seen.extend((state.name, state.timestamp) for state in future.run.history)

    world.run(flow(world.function(body)))
    start = seen[0][1]
    assert [(name, taken - start) for name, taken in seen] == [
        ("Pending", 0),
        ("Running", 0),
        ("Retrying", 0),
        ("AwaitingRetry", 0),
        ("Retrying", 9),
        ("Completed", 9),
    ]


def test_a_wait_for_a_retry_holds_no_worker(clock: VirtualClock) -> None:
    order: list[str] = []

    @task(retries=1, retry_delay_seconds=3600)
    def patient() -> None:
        order.append("patient")
        if len(order) == 1:
            raise ValueError("not yet")

    @task
    def other() -> None:
        order.append("other")

    with penstock_test_harness(ThreadPoolTaskRunner(max_workers=1), clock=clock):

        @flow
        def both() -> None:
            first = patient.submit()
            other.submit().result()
            first.result()

        both()
    assert order == ["patient", "other", "patient"]


class TestJitter:
    """A delay is stretched by a chance that the engine draws."""

    @pytest.mark.parametrize(("chance", "expected"), [(0.0, 100.0), (0.5, 125.0), (1.0, 150.0)])
    def test_in_a_run(self, engine: Engine, clock: VirtualClock, chance: float, expected: float) -> None:
        engine.chance = lambda: chance
        attempts = Attempts(clock, 1)

        @flow(retries=1, retry_delay_seconds=100, retry_jitter_factor=0.5)
        async def run() -> str:
            return await attempts.body()

        assert asyncio.run(run()) == "value"
        assert attempts.pauses == [expected]

    @given(
        delays=st.lists(st.floats(0, 1e6), min_size=1, max_size=MAX_DELAYS),
        jitter=st.floats(0, 10),
        chance=st.floats(0, 1),
        attempt=st.integers(1, 60),
    )
    def test_stays_within_its_bounds(self, delays: list[float], jitter: float, chance: float, attempt: int) -> None:
        policy = RetryPolicy.make(50, delays, jitter, "task 'x'")
        delay = policy.delay_after(attempt, lambda: chance)
        if attempt > 50:
            assert delay is None
        else:
            base = delays[min(attempt, len(delays)) - 1]
            assert delay is not None
            assert base <= delay <= base * (1 + jitter) * (1 + 1e-9)


class TestCondition:
    """``retry_condition_fn`` says whether a failure is worth another attempt."""

    def attempts_with(
        self, world: World, clock: VirtualClock, condition: Callable[..., Any], made: Callable[..., Any]
    ) -> int:
        attempts = Attempts(clock, failures=1000)
        run = made(world.function(attempts.body), retries=3, retry_condition_fn=condition)

        async def body() -> Any:
            return await world.get(run())

        with pytest.raises(ValueError, match="attempt"):
            world.run(flow(world.function(body)))
        return len(attempts.times)

    @pytest.mark.parametrize("made", [task, flow])
    def test_is_asked_with_the_definition_the_run_and_the_state(
        self, world: World, default_engine: Engine, clock: VirtualClock, made: Callable[..., Any]
    ) -> None:
        asked: list[tuple[Any, Any, Any]] = []

        def condition(definition: Any, run: Any, state: State) -> bool:
            asked.append((definition, run, state))
            return run.attempt < 3

        assert self.attempts_with(world, clock, condition, made) == 3
        assert [str(state.error) for _, _, state in asked] == ["attempt 1", "attempt 2", "attempt 3"]
        assert all(state.is_failed() for _, _, state in asked)
        assert {definition.kind for definition, _, _ in asked} == {made.__name__}

    def test_may_be_a_coroutine_function(self, world: World, default_engine: Engine, clock: VirtualClock) -> None:
        async def condition(_task: Any, run: Any, _state: State) -> bool:
            return run.attempt < 2

        assert self.attempts_with(world, clock, condition, task) == 2

    def test_that_fails_means_no_and_is_logged(
        self, world: World, default_engine: Engine, clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        def condition(_task: Any, _run: Any, _state: State) -> bool:
            raise KeyError("broken")

        assert self.attempts_with(world, clock, condition, task) == 1
        assert "retry_condition_fn failed" in caplog.text
        assert "KeyError" in caplog.text

    def test_is_asked_about_a_returned_failed_state(self, engine: Engine) -> None:
        asked: list[str | None] = []

        def condition(_task: Any, _run: Any, state: State) -> bool:
            asked.append(state.message)
            return len(asked) < 2

        @task(retries=5, retry_condition_fn=condition)
        def work() -> State:
            return Failed(message=f"no {len(asked)}")

        assert work(return_state=True).message == "no 1"
        assert asked == ["no 0", "no 1"]


def test_a_returned_failed_state_is_retried_like_an_exception(engine: Engine, clock: VirtualClock) -> None:
    entered: list[float] = []

    @task(retries=2, retry_delay_seconds=60)
    def work() -> State:
        entered.append(clock.monotonic())
        return Failed(message="no") if len(entered) < 3 else Completed(data="yes")

    assert work() == "yes"
    assert entered == [0, 60, 120]


@pytest.mark.parametrize("state", [Completed(data=1), Cancelled(message="enough")])
def test_another_returned_state_is_final(engine: Engine, state: State) -> None:
    entered: list[int] = []

    @task(retries=2)
    def work() -> State:
        entered.append(1)
        return state

    assert work(return_state=True).type is state.type
    assert entered == [1]


def test_a_retry_is_logged_with_its_delay(
    engine: Engine, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "penstock")
    attempts = Attempts(clock, 1)
    work = task(INLINE.function(attempts.body), retries=1, retry_delay_seconds=60)
    work()
    assert any("Retrying in 60" in line and "attempt 1" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"retries": -1}, "retries=-1"),
        ({"retries": 1, "retry_delay_seconds": -1}, "negative delay"),
        ({"retries": 1, "retry_delay_seconds": [1, -1]}, "negative delay"),
        ({"retries": 1, "retry_delay_seconds": [1] * (MAX_DELAYS + 1)}, "at most 50"),
        ({"retries": 1, "retry_jitter_factor": -0.1}, "retry_jitter_factor=-0.1"),
    ],
)
@pytest.mark.parametrize("made", [task, flow])
def test_an_option_that_cannot_work_is_refused_where_it_is_given(
    made: Callable[..., Any], options: dict[str, Any], names: str
) -> None:
    with pytest.raises(ConfigurationError, match=names) as caught:
        made(**options)(lambda: None)
    assert made.__name__ in str(caught.value)


def test_exponential_backoff_doubles_and_is_bounded() -> None:
    assert exponential_backoff(3)(4) == [3, 6, 12, 24]
    assert len(exponential_backoff(1)(1000)) == MAX_DELAYS
    with pytest.raises(ConfigurationError, match="negative"):
        exponential_backoff(-1)


def test_defaults_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_TASK_RETRIES", "2")
    monkeypatch.setenv("PENSTOCK_FLOW_RETRIES", "1")

    @task
    def work() -> None: ...

    @flow
    def run() -> None: ...

    assert (work.retry.retries, run.retry.retries) == (2, 1)
    assert task(retries=0)(work.fn).retry.retries == 0
    monkeypatch.setenv("PENSTOCK_TASK_RETRIES", "many")
    with pytest.raises(ConfigurationError, match="PENSTOCK_TASK_RETRIES"):
        task(work.fn)


FAILED = Failed(data=ValueError("boom"))


@pytest.mark.parametrize(
    ("states", "name", "message"),
    [
        ([], "Completed", "0/0"),
        ([Completed(), Completed()], "Completed", "2/2"),
        ([Completed(), FAILED], "Failed", "1/2 states did not complete"),
        ([Completed(), FAILED, Cancelled()], "Cancelled", "2/3"),
        ([Skipped(), Completed()], "Failed", "1/2"),
        ([Paused()], "Failed", "are not final"),
    ],
)
def test_what_a_flow_that_returns_states_becomes(states: list[State], name: str, message: str) -> None:
    verdict = aggregate(states)
    assert verdict.name == name
    assert message in (verdict.message or "")


def test_a_verdict_carries_the_childs_exception() -> None:
    with pytest.raises(ValueError, match="boom"):
        aggregate([Completed(), FAILED]).result()
    with pytest.raises(FailedRun):
        aggregate([Failed(message="no")]).result()


@pytest.mark.parametrize("virtual", [False, True], ids=["system clock", "virtual clock"])
def test_a_retried_task_may_itself_wait_for_a_retry(virtual: bool) -> None:
    """No user code runs on the thread of the timers, where it would wait for a timer that waits for it."""
    entered: list[str] = []

    @task(retries=1, retry_delay_seconds=0.01)
    def inner() -> str:
        entered.append("inner")
        if entered.count("inner") == 1:
            raise ValueError("inner")
        return "value"

    @task(retries=1, retry_delay_seconds=0.01)
    def outer() -> str:
        entered.append("outer")
        if entered.count("outer") == 1:
            raise ValueError("outer")
        return inner()

    with penstock_test_harness(SequentialTaskRunner, clock=VirtualClock(autojump=True) if virtual else None):
        assert flow(lambda: outer.submit().result(timeout=5))() == "value"
    assert entered == ["outer", "outer", "inner", "inner"]


class BrokenClock(VirtualClock):
    """A clock that cannot set timers."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        raise OSError("no timers left")


@pytest.mark.parametrize("submitted", [False, True], ids=["called", "submitted"])
def test_what_goes_wrong_in_the_engine_itself_is_a_named_crash(world: World, submitted: bool) -> None:
    async def fails() -> None:
        raise ValueError("boom")

    work = task(retries=1, retry_delay_seconds=60)(world.function(fails))

    async def body() -> Any:
        await world.get(work.submit() if submitted else work())

    with penstock_test_harness(clock=BrokenClock()), pytest.raises(CrashedRun, match="no timers left"):
        world.run(flow(world.function(body)))
