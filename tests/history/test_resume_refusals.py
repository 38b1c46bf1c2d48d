"""What cannot be resumed, and what is said then."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from interrupted import World, failed, make_pipeline, newest, records

from penstock import Engine, flow
from penstock.errors import ConfigurationError, ResumeConflict, RunNotFound
from penstock.history import History, resume


def test_an_unknown_run_is_refused(engine: Engine) -> None:
    with pytest.raises(RunNotFound, match="knows no run"):
        resume("01a1fec0-5829-8578-a6c3-000000000002")
    with pytest.raises(RunNotFound, match="no run id"):
        resume("yesterday's")


def test_a_run_that_has_completed_is_refused(world: World, engine: Engine) -> None:
    make_pipeline(world)(0)
    with pytest.raises(ResumeConflict, match="has completed.*Call the flow"):
        resume(newest(engine))


def test_a_part_of_a_run_is_refused(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"clean 4"}
    first = failed(lambda: pipeline(0), engine)
    assert engine.history is not None
    part = next(iter(engine.history.inside(first)))
    with pytest.raises(ResumeConflict, match=f"Resume {first}"):
        resume(part.id)


def test_a_run_that_is_alive_is_refused(engine: Engine) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @flow
    def pipeline() -> None:
        begun.set()
        assert go_on.wait(20)

    future = engine.start(pipeline)
    assert begun.wait(20)
    try:
        with pytest.raises(ResumeConflict, match="alive: cancel it"):
            resume(newest(engine))
    finally:
        go_on.set()
    future.result()


def test_of_two_who_resume_at_once_one_does(world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock_history.resuming import resume as module

    both_have_looked = threading.Barrier(2, timeout=20)
    prepare = module._prepare

    def prepare_at_once(*args: Any) -> Any:
        run = prepare(*args)
        both_have_looked.wait()
        return run

    pipeline = make_pipeline(world)
    world.broken = {"clean 4"}
    first = failed(lambda: pipeline(0), engine)
    world.since()
    world.broken = set()
    monkeypatch.setattr(module, "_prepare", prepare_at_once)
    outcomes: list[Any] = []

    def one() -> None:
        try:
            outcomes.append(resume(first))
        except ResumeConflict as conflict:
            outcomes.append(conflict)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    conflicts = [outcome for outcome in outcomes if isinstance(outcome, ResumeConflict)]
    assert len(outcomes) == 2
    assert len(conflicts) == 1
    assert 100 in outcomes
    assert world.since() == ["clean 4"]
    assert [record.type for record in records(engine)] == ["COMPLETED", "FAILED"]


def test_a_method_bound_to_an_object_is_refused(world: World, engine: Engine) -> None:
    class Job:
        @flow
        def work(self) -> None:
            world.enter("work")

    world.broken = {"work"}
    first = failed(Job().work, engine)
    with pytest.raises(LookupError, match="bound to an object"):
        resume(first)


def test_without_a_history_there_is_nothing_to_resume() -> None:
    with Engine(history=None), pytest.raises(ConfigurationError, match="no history to resume from"):
        resume("01a1fec0-5829-8578-a6c3-000000000002")
    with pytest.raises(ConfigurationError, match="'refuse' or 'continue'"):
        resume("01a1fec0-5829-8578-a6c3-000000000002", on_code_change="ignore")  # type: ignore[arg-type]


def test_another_history_can_be_named(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"clean 4"}
    first = failed(lambda: pipeline(0), engine)
    world.broken = set()
    world.since()
    assert isinstance(engine.history, History)
    url = engine.history.url
    with Engine(history=None, results=engine.results):
        assert resume(first, history=url) == 100
    assert world.since() == ["clean 4"]
