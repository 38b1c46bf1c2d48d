"""Flow runs that failed, were cancelled or are refused, and go on: in one process, against a real file."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from recording import Recorder

from penstock import Engine, flow, task, wait
from penstock.cache_policies import NO_CACHE
from penstock.errors import ConfigurationError, ResumeConflict, RunNotFound
from penstock.history import History, RunRecord, resume
from penstock.runners import SequentialTaskRunner
from penstock.testing import VirtualClock, wait_until


class World:
    """What tasks touch outside: they note that they were entered, and fail while something is broken."""

    def __init__(self) -> None:
        self.entered: list[Any] = []
        self.broken: set[Any] = set()

    def enter(self, what: Any) -> None:
        self.entered.append(what)
        if what in self.broken:
            raise ConnectionError(f"{what} is broken")

    def since(self) -> list[Any]:
        """What was entered since this was last asked, sorted."""
        entered, self.entered = sorted(self.entered, key=str), []
        return entered


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(history=tmp_path / "history.db", results=tmp_path / "results") as engine:
        yield engine


def failed(call: Callable[[], Any], engine: Engine) -> str:
    """Run a flow that fails; gives the id of its run."""
    with pytest.raises(Exception, match=".*"):  # whatever it fails with: what counts comes later
        call()
    return newest(engine)


def ended(future: Any) -> Any:
    """The last state of a run."""
    wait([future], timeout=20)
    return future.state


def newest(engine: Engine) -> str:
    return str(records(engine)[0].id)


def records(engine: Engine) -> list[RunRecord]:
    """The flow runs that are roots, newest first."""
    assert engine.history is not None
    history = engine.history
    history.open(engine).flush(10)
    return [record for record in history.runs() if record.parent is None]


def inside(engine: Engine, run_id: object) -> list[tuple[str, str]]:
    """Which runs there were inside a run, and how they ended."""
    assert engine.history is not None
    engine.history.open(engine).flush(10)
    return sorted((record.definition, record.state) for record in engine.history.inside(str(run_id)))


def make_pipeline(world: World) -> Any:
    @task
    def load(n: int) -> int:
        world.enter(f"load {n}")
        return n + 1

    @task
    def clean(n: int) -> int:
        world.enter(f"clean {n}")
        return n * 10

    @flow(persist_result=True)
    def pipeline(start: int) -> int:
        loaded = load.map(range(start, start + 4))
        cleaned = clean.map(loaded)
        wait(cleaned)
        return sum(cleaned.result())

    return pipeline


def test_only_what_had_not_completed_runs_again(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"load 2", "clean 4"}
    first = failed(lambda: pipeline(0), engine)
    world.since()
    world.broken = set()

    assert resume(first) == 100
    assert world.since() == ["clean 3", "clean 4", "load 2"]
    second, old = records(engine)
    assert (old.type, second.type) == ("FAILED", "COMPLETED")
    assert (old.resumed_by, second.resumes) == (second.id, old.id)
    assert second.parameters == old.parameters == '{"start":0}'
    states = inside(engine, second.id)
    assert states.count(("load", "Cached")) == 3
    assert states.count(("clean", "Cached")) == 2
    assert len(states) == 8


def test_a_cached_run_is_recorded_with_the_same_reference(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"clean 4"}
    first = failed(lambda: pipeline(0), engine)
    world.broken = set()
    resume(first)
    assert engine.history is not None
    results = [
        {str(record.result) for record in engine.history.inside(record.id) if record.definition == "load"}
        for record in records(engine)
    ]
    assert results[0] == results[1]
    assert len(results[0]) == 4


def test_the_chain_is_continued_at_its_end_whichever_run_is_named(world: World, engine: Engine) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"load 1", "load 2", "clean 1"}
    first = failed(lambda: pipeline(0), engine)
    world.broken -= {"load 1"}
    failed(lambda: resume(first), engine)
    world.broken -= {"load 2"}
    third = failed(lambda: resume(first), engine)
    world.since()
    world.broken = set()

    assert resume(first) == 100
    assert world.since() == ["clean 1"]
    chain = records(engine)
    assert [record.resumes for record in chain] == [record.id for record in chain[1:]] + [None]
    with pytest.raises(ResumeConflict, match=f"resumed before.*{chain[0].id} has completed"):
        resume(third)


def test_a_cancelled_run_goes_on(world: World, engine: Engine) -> None:
    begun = threading.Event()
    go_on = threading.Event()

    @task
    def quick() -> int:
        world.enter("quick")
        return 1

    @task
    def slow() -> int:
        world.enter("slow")
        begun.set()
        assert go_on.wait(20)
        return 2

    @flow(persist_result=True)
    def pipeline() -> int:
        return quick() + slow.submit().result()

    future = engine.start(pipeline)
    assert begun.wait(20)
    future.cancel()
    go_on.set()
    assert ended(future).is_cancelled()
    assert resume(newest(engine)) == 3
    assert world.since() == ["quick", "slow", "slow"]


def test_an_async_flow_goes_on_on_the_loop_of_whoever_awaits_it(world: World, engine: Engine) -> None:
    loops: list[Any] = []

    @task
    async def double(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        world.enter(n)
        return 2 * n

    @flow(persist_result=True)
    async def pipeline(count: int) -> int:
        outcomes = await asyncio.gather(*(double(n) for n in range(count)), return_exceptions=True)
        return sum(outcomes)

    world.broken = {3}
    first = failed(lambda: asyncio.run(pipeline(5)), engine)
    world.since()
    world.broken = set()

    async def main() -> None:
        assert await resume(first) == 20
        assert loops[-1] is asyncio.get_running_loop()

    asyncio.run(main())
    assert world.since() == [3]


def test_an_async_flow_goes_on_without_a_loop(world: World, engine: Engine) -> None:
    @flow
    async def pipeline() -> str:
        world.enter("it")
        return "done"

    world.broken = {"it"}
    first = failed(lambda: asyncio.run(pipeline()), engine)
    world.broken = set()
    assert resume(first) == "done"


def test_a_synchronous_flow_does_not_block_the_loop(world: World, engine: Engine) -> None:
    turned = threading.Event()

    @flow
    def pipeline() -> str:
        world.enter("it")
        assert turned.wait(20), "the loop stands still"
        return "done"

    world.broken = {"it"}
    first = failed(pipeline, engine)
    world.broken = set()

    async def main() -> str:
        asyncio.get_running_loop().call_later(0.05, turned.set)
        return str(await resume(first))

    assert asyncio.run(main()) == "done"


def test_cancelling_whoever_awaits_cancels_the_run(world: World, engine: Engine) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @flow
    def pipeline() -> None:
        world.enter("it")
        begun.set()
        assert go_on.wait(20)
        nothing()
        world.enter("past it")

    @task
    def nothing() -> None:
        pass

    world.broken = {"it"}
    first = failed(pipeline, engine)
    world.broken = set()

    async def main() -> None:
        resuming = asyncio.ensure_future(resume(first))
        await asyncio.to_thread(begun.wait, 20)
        resuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await resuming
        go_on.set()

    asyncio.run(main())
    wait_until(lambda: records(engine)[0].ended is not None, "the run to end")
    assert records(engine)[0].type == "CANCELLED"
    assert world.since() == ["it", "it"]


def test_a_subflow_with_a_stored_value_is_not_entered_again(world: World, engine: Engine) -> None:
    @task
    def step(n: int) -> int:
        world.enter(f"step {n}")
        return n

    @flow
    def below(n: int) -> int:
        world.enter(f"below {n}")
        return step(n) + step(n + 1)

    @flow(persist_result=True)
    def above() -> int:
        return below(1) + below(10)

    world.broken = {"step 11"}
    first = failed(above, engine)
    world.since()
    world.broken = set()
    assert resume(first) == 24
    assert world.since() == ["below 10", "step 11"]


def test_tasks_in_a_task_that_was_interrupted_are_not_executed_again(world: World, engine: Engine) -> None:
    @task
    def inner(n: int) -> int:
        world.enter(n)
        return n

    @task
    def outer() -> int:
        return inner(1) + inner(2) + inner(3)

    @flow(persist_result=True)
    def pipeline() -> int:
        return outer()

    world.broken = {3}
    first = failed(pipeline, engine)
    world.since()
    world.broken = set()
    assert resume(first) == 6
    assert world.since() == [3]


def test_equal_calls_get_each_their_own_result(world: World, engine: Engine) -> None:
    @task(cache_policy=NO_CACHE)
    def draw() -> int:
        world.enter("draw")
        return len(world.entered)

    @task
    def last() -> None:
        world.enter("last")

    @flow(persist_result=True)
    def pipeline() -> list[int]:
        drawn = [draw() for _ in range(3)]
        last()
        return drawn

    world.broken = {"last"}
    first = failed(pipeline, engine)
    world.broken = set()
    assert resume(first) == [1, 2, 3]
    assert world.since() == ["draw", "draw", "draw", "last", "last"]


def test_what_is_refreshed_in_every_run_counts_too(world: World, engine: Engine) -> None:
    @task(refresh_cache=True)
    def fresh() -> int:
        world.enter("fresh")
        return 1

    @task
    def last() -> None:
        world.enter("last")

    @flow(persist_result=True)
    def pipeline() -> int:
        value = fresh()
        last()
        return value

    world.broken = {"last"}
    first = failed(pipeline, engine)
    world.broken = set()
    assert resume(first) == 1
    assert world.entered.count("fresh") == 1


def test_the_order_of_calls_may_differ(world: World, engine: Engine) -> None:
    order = [1, 2, 3]

    @task(cache_policy=NO_CACHE)
    def step(n: int) -> int:
        world.enter(n)
        return n

    @flow
    def below(n: int) -> int:
        return step(n)

    @flow(persist_result=True)
    def pipeline() -> list[int]:
        return [below(n) for n in list(order)] + [step(n) for n in list(order)]

    @flow(persist_result=True)
    def broken() -> None:
        pipeline()
        world.enter("broken")

    world.broken = {"broken"}
    first = failed(broken, engine)
    world.since()
    world.broken = set()
    order.reverse()
    assert resume(first) is None
    assert world.since() == ["broken"]


class Client:
    """An argument of which no key can be made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_an_argument_without_a_canonical_form_counts_by_its_place(
    world: World, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @task
    def fetch(client: Client, n: int) -> int:
        world.enter(n)
        return n

    @flow(persist_result=True)
    def pipeline() -> int:
        client = Client()
        return fetch(client, 1) + fetch(client, 2) + fetch(client, 3)

    world.broken = {2}
    first = failed(pipeline, engine)
    world.since()
    world.broken = set()
    assert resume(first) == 6
    assert world.since() == [2, 3]


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_result_that_is_damaged_is_made_again_with_a_warning(
    world: World, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    pipeline = make_pipeline(world)
    world.broken = {"clean 4"}
    first = failed(lambda: pipeline(0), engine)
    world.since()
    world.broken = set()
    assert engine.history is not None
    (victim,) = [
        record.result for record in engine.history.inside(first) if record.result and record.definition == "clean"
    ][:1]
    (file,) = [path for path in (tmp_path / "results").rglob("*") if path.is_file() and victim["key"] in str(path)]
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        assert resume(first) == 100
    assert world.since() == ["clean 1", "clean 4"]
    assert any(record.levelname == "WARNING" and victim["key"] in record.getMessage() for record in caplog.records)


def test_a_result_that_has_expired_is_made_again(world: World, engine: Engine) -> None:
    @task(cache_expiration=timedelta(microseconds=1))
    def fleeting() -> int:
        world.enter("fleeting")
        return 1

    @task
    def last() -> None:
        world.enter("last")

    @flow(persist_result=True)
    def pipeline() -> int:
        value = fleeting()
        last()
        return value

    world.broken = {"last"}
    first = failed(pipeline, engine)
    world.broken = set()
    assert resume(first) == 1
    assert world.entered.count("fleeting") == 2


def test_values_that_need_not_be_in_memory_stay_in_the_store(world: World, engine: Engine) -> None:
    @task(cache_result_in_memory=False, cache_policy=NO_CACHE)
    def load() -> list[int]:
        world.enter("load")
        return [1, 2, 3]

    @task(cache_policy=NO_CACHE)
    def total(numbers: list[int]) -> int:
        world.enter("total")
        return sum(numbers)

    @task
    def last(n: int) -> int:
        world.enter("last")
        return n

    @flow(persist_result=True)
    def pipeline() -> int:
        return last(total.submit(load.submit()))

    world.broken = {"last"}
    first = failed(pipeline, engine)
    world.since()
    world.broken = set()
    assert resume(first) == 6
    assert world.since() == ["last"]


# --- refusals ---------------------------------------------------------------------------------------------------------


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
