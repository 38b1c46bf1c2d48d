"""Attempts, due times and timeouts go on where they were; and what a flow that tries again need not do twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupted import Client, World, ended, failed, newest, records
from recording import Recorder

from penstock import Engine, flow, task
from penstock.cache_policies import NO_CACHE
from penstock.history import resume
from penstock.runners import SequentialTaskRunner
from penstock.testing import VirtualClock

# --- attempts, due times and timeouts ---------------------------------------------------------------------------------


def test_attempts_count_on_and_a_retry_comes_when_it_was_due(world: World, tmp_path: Path) -> None:
    """Interrupted while it waits for its second retry, a task makes that retry and no more, at the time it was due."""
    clock, sink = VirtualClock(), Recorder()

    @task(retries=2, retry_delay_seconds=[10, 1000])
    def flaky() -> None:
        world.enter("flaky")

    @flow(persist_result=True)
    def pipeline() -> None:
        flaky.submit().result()

    def waiting(times: int) -> Callable[[], bool]:
        return lambda: (
            sum(state.name == "AwaitingRetry" for states in sink.states.values() for state in states) == times
        )

    world.broken = {"flaky"}
    runner = SequentialTaskRunner()
    where = {"history": tmp_path / "history.db", "results": tmp_path / "results"}
    with Engine(runner, clock=clock, sinks=[sink], **where) as engine:  # type: ignore[arg-type]
        future = engine.start(pipeline)
        assert sink.wait_until(waiting(1), 20)
        clock.advance(10)
        assert sink.wait_until(waiting(2), 20)
        due = clock.time() + 1000
        clock.advance(300)
        future.cancel()
        assert ended(future).is_cancelled()
        first = newest(engine)
        assert len(world.since()) == 2

        resuming = threading.Thread(target=lambda: failed(lambda: resume(first), engine))
        resuming.start()
        assert sink.wait_until(waiting(3), 20)
        clock.advance(due - clock.time() - 1)
        assert world.since() == []
        clock.advance(1)
        resuming.join(20)
        assert not resuming.is_alive()
        assert world.since() == ["flaky"]
        assert engine.history is not None
        (record,) = engine.history.inside(newest(engine))
        assert (record.type, record.attempts) == ("FAILED", 3)
        # It had its verdict: whoever resumes now gives it another chance.
        world.broken = set()
        assert resume(first) is None
        assert world.since() == ["flaky"]


def test_a_timeout_counts_the_time_that_was_used(world: World, tmp_path: Path) -> None:
    clock, sink = VirtualClock(), Recorder()
    begun = threading.Semaphore(0)

    @task
    def step() -> None:
        world.enter("step")

    @flow(timeout_seconds=100)
    def pipeline() -> None:
        step()
        begun.release()
        never.wait(20)
        step()

    never = threading.Event()
    where = {"history": tmp_path / "history.db", "results": tmp_path / "results"}
    with Engine(SequentialTaskRunner(), clock=clock, sinks=[sink], **where) as engine:  # type: ignore[arg-type]
        future = engine.start(pipeline)
        assert begun.acquire(timeout=20)
        clock.advance(40)
        future.cancel()
        assert ended(future).is_cancelled()
        first = newest(engine)
        resuming = threading.Thread(target=lambda: failed(lambda: resume(first), engine))
        resuming.start()
        assert begun.acquire(timeout=20)
        clock.advance(59)
        assert resuming.is_alive()
        clock.advance(1)
        resuming.join(20)
        assert not resuming.is_alive()
        assert records(engine)[0].state == "TimedOut"
        never.set()


# --- flow retries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [True, False])
def test_a_flow_that_tries_again_does_nothing_twice(world: World, tmp_path: Path, history: bool) -> None:
    @task(cache_policy=NO_CACHE)
    def step(n: int) -> int:
        world.enter(n)
        return n

    @flow
    def below(n: int) -> int:
        return step(n) + step(n + 1)

    @flow(persist_result=True, retries=2)
    def pipeline() -> int:
        world.broken.discard(min(world.broken, default=None))
        return step(1) + below(2) + step(4) + below(5)

    world.broken = {0, 3, 6}
    where = {"history": tmp_path / "history.db" if history else None, "results": tmp_path / "results"}
    with Engine(**where):  # type: ignore[arg-type]
        assert pipeline() == 21
    assert world.since() == [1, 2, 3, 3, 4, 5, 6, 6]


def test_without_a_history_a_vague_argument_is_no_argument_to_find_anything(world: World, tmp_path: Path) -> None:
    """Positions are only counted where a history is; without them two clients could be taken for each other."""

    @task
    def fetch(client: Client) -> None:
        world.enter("fetch")

    @flow(persist_result=True, retries=1)
    def pipeline() -> None:
        fetch(Client())
        world.broken ^= {"pipeline"}
        world.enter("pipeline")

    with Engine(history=None, results=tmp_path / "results"):
        pipeline()
    assert world.since() == ["fetch", "fetch", "pipeline", "pipeline"]


def test_a_flow_that_is_resumed_tries_again_with_the_same_knowledge(world: World, engine: Engine) -> None:
    @task(cache_policy=NO_CACHE)
    def step(n: int) -> int:
        world.enter(n)
        return n

    @flow(persist_result=True, retries=1)
    def pipeline() -> int:
        total = step(1) + step(2)
        world.enter("check")
        return total + step(3)

    world.broken = {"check"}
    first = failed(pipeline, engine)
    assert world.since() == [1, 2, "check", "check"]

    class FailsOnce(set[Any]):
        def __contains__(self, what: Any) -> bool:
            return what == 3 and world.entered.count(3) == 1

    world.broken = FailsOnce()
    assert resume(first) == 6
    assert world.since() == [3, 3, "check", "check"]
