"""Spans and metrics of runs: who is whose child, what they say, and that nobody pays who did not ask."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import spans
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import Span, SpanProcessor
from spans import Traces, here, id_of
from worlds import World

from penstock import Engine, flow, task
from penstock.cache_policies import INPUTS
from penstock.runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Providers of the test's own."""
    traces = Traces()
    yield traces
    traces.close()


@pytest.fixture
def engine(traces: Traces) -> Iterator[Engine]:
    """An engine that traces, entered."""
    with Engine(ThreadPoolTaskRunner(2), sinks=[traces.sink()]) as engine:
        yield engine


@task
def where(_: Any = None) -> tuple[int, int]:
    return here()


def test_spans_nest_like_runs(world: World, engine: Engine, traces: Traces) -> None:
    async def sub_body() -> tuple[int, int]:
        await world.get(where.with_options(name="in sub").submit())
        return here()

    async def body() -> list[tuple[int, int]]:
        sub = flow(name="sub")(world.function(sub_body))
        return [
            here(),
            where.with_options(name="direct")(),
            await world.get(where.with_options(name="submitted").submit()),
            *[await world.get(future) for future in where.with_options(name="mapped").map([1])],
            await world.get(sub()),
        ]

    places = world.run(lambda: flow(name="main")(world.function(body))())
    names = ["flow main", "task direct", "task submitted", "task mapped", "flow sub"]
    assert [span for _, span in places] == [id_of(traces.span(name)) for name in names]
    assert len({trace_id for trace_id, _ in places}) == 1
    assert [traces.parent_of(name) for name in names] == [None, *["flow main"] * 4]
    assert traces.parent_of("task in sub") == "flow sub"


def test_async_tasks_of_both_kinds_of_flow(engine: Engine, traces: Traces) -> None:
    @task
    async def look() -> tuple[int, int]:
        await asyncio.sleep(0)
        return here()

    @flow
    def plain() -> list[tuple[int, int]]:
        return [look(), look.submit().result()]

    @flow
    async def coroutine() -> list[tuple[int, int]]:
        return [await look(), await look.submit()]

    for places in (plain(), asyncio.run(coroutine())):
        found = {id_of(span): span for span in traces.spans("task look")}
        assert len(places) == len(set(places)) == 2
        assert all(span_id in found for _, span_id in places)
    roots = [id_of(traces.span("flow plain")), id_of(traces.span("flow coroutine"))]
    assert [span.parent and span.parent.span_id for span in traces.spans("task look")] == [
        roots[0],
        roots[0],
        roots[1],
        roots[1],
    ]


def test_the_users_spans_are_in_between(engine: Engine, traces: Traces) -> None:
    @task
    def work() -> None:
        with traces.tracer.start_as_current_span("query"):
            pass

    @flow
    def main() -> None:
        with traces.tracer.start_as_current_span("phase"):
            work.submit().result()

    with traces.tracer.start_as_current_span("request"):
        main()
        outside = here()
    assert outside[1] == id_of(traces.span("request"))
    chain = ["query", "task work", "phase", "flow main", "request"]
    assert [traces.parent_of(name) for name in chain] == [*chain[1:], None]


def test_a_started_flow_belongs_to_the_request_that_started_it(engine: Engine, traces: Traces) -> None:
    @flow
    def job() -> None: ...

    @flow
    async def async_job() -> None: ...

    with traces.tracer.start_as_current_span("request"):
        futures = [engine.start(job), engine.start(async_job)]
    for future in futures:
        future.result()
    assert [traces.parent_of(name) for name in ("flow job", "flow async_job")] == ["request", "request"]


def test_whoever_iterates_over_a_run_is_not_in_it(engine: Engine, traces: Traces) -> None:
    @task
    def numbers() -> Iterator[int]:
        yield here()[1]
        yield here()[1]

    @task
    async def async_numbers() -> AsyncIterator[int]:
        yield here()[1]
        yield here()[1]

    @flow
    def main() -> None:
        me = here()
        for inside in numbers():
            assert here() == me
            assert inside != me[1]
        assert here() == me

    @flow
    async def async_main() -> None:
        me = here()
        async for inside in async_numbers():
            assert here() == me
            assert inside != me[1]
        assert here() == me

    main()
    asyncio.run(async_main())
    assert traces.parent_of("task numbers") == "flow main"
    assert traces.parent_of("task async_numbers") == "flow async_main"


def test_a_run_is_one_span_with_all_its_attempts(engine: Engine, traces: Traces) -> None:
    failures = [ValueError("first"), ValueError("second")]

    @task(retries=2, retry_delay_seconds=0.001, tags=["b", "a"], task_run_name="try-{number}")
    def flaky(number: int) -> int:
        if failures:
            raise failures.pop(0)
        return number

    @task
    def seven() -> int:
        return 7

    assert flow(lambda: flaky.submit(seven.submit()).result())() == 7
    span = traces.span("task flaky")
    assert [event.name for event in span.events] == [
        "Running",
        *["exception", "AwaitingRetry", "Retrying"] * 2,
    ]
    said = [event.attributes for event in span.events if event.name == "exception"]
    assert [attributes and attributes["exception.message"] for attributes in said] == ["first", "second"]
    attributes = dict(span.attributes or {})
    assert attributes["penstock.run.attempts"] == 3
    assert attributes["penstock.run.tags"] == ("a", "b")
    assert attributes["penstock.run.state"] == "COMPLETED"
    assert attributes["penstock.task.name"] == "flaky"
    assert attributes["code.function.name"] == f"{__name__}.{flaky.fn.__qualname__}"
    assert attributes["penstock.run.name"] == "try-7"
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.start_time is not None
    assert span.end_time is not None
    times = [span.start_time, *[event.timestamp for event in span.events], span.end_time]
    assert times == sorted(times)


def test_failures_are_errors_and_what_was_skipped_is_none(engine: Engine, traces: Traces) -> None:
    @task
    def fail() -> int:
        raise KeyError("no such thing")

    @flow
    def main() -> None:
        where.with_options(name="skipped").submit(fail.submit())

    main(return_state=True)
    failed, skipped, root = (traces.span(name) for name in ("task fail", "task skipped", "flow main"))
    assert failed.status.status_code is root.status.status_code is trace.StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "KeyError"
    assert (root.attributes or {})["error.type"] == "penstock.errors.UnhandledFailures"
    assert "no such thing" in str(failed.status.description)
    (event,) = [event for event in failed.events if event.name == "exception"]
    assert "in fail" in str((event.attributes or {})["exception.stacktrace"])
    assert skipped.status.status_code is trace.StatusCode.UNSET
    assert (skipped.attributes or {})["penstock.run.state_name"] == "UpstreamFailed"
    assert skipped.events == ()


def test_a_cache_hit_is_a_span_without_an_attempt(engine: Engine, traces: Traces, tmp_path: Path) -> None:
    cached = where.with_options(name="cached", cache_policy=INPUTS, result_storage=tmp_path)
    assert cached(1) == cached(1)
    made, found = traces.spans("task cached")
    assert [event.name for event in made.events] == ["Running"]
    assert found.events == ()
    assert (found.attributes or {})["penstock.run.state_name"] == "Cached"


def test_hooks_are_in_the_run(engine: Engine, traces: Traces) -> None:
    places: list[tuple[int, int]] = []

    @task(on_running=[lambda *_: places.append(here())], on_completion=[lambda *_: places.append(here())])
    def hooked() -> None: ...

    hooked()
    hooked.submit().result()
    first, second = map(id_of, traces.spans("task hooked"))
    assert [span for _, span in places] == [first, first, second, second]


def test_a_run_that_has_ended_lets_go_of_its_span(engine: Engine, traces: Traces) -> None:
    future = where.submit()
    assert future.result()[1] == id_of(traces.span("task where"))
    assert future.run.trace is None


class TestOnWorkers:
    """A pool of processes, each with a provider that writes spans into a file."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "spans"

    @pytest.fixture
    def engine(self, traces: Traces, file: Path) -> Iterator[Engine]:
        runner = ProcessPoolTaskRunner(1, initializer=spans.trace_into, initargs=(file,))
        with Engine(runner, sinks=[traces.sink()]) as engine:
            yield engine

    def test_what_happens_there_lies_below(self, engine: Engine, traces: Traces, file: Path) -> None:
        @task
        def inner() -> None:
            with trace.get_tracer("user").start_as_current_span("inner query"):
                pass

        @task
        def outer() -> tuple[int, int]:
            with trace.get_tracer("user").start_as_current_span("query"):
                inner()
            return here()

        @flow
        def main() -> tuple[int, int]:
            return outer.submit().result()

        place = main()
        assert place == (traces.span("flow main").context.trace_id, id_of(traces.span("task outer")))  # type: ignore[union-attr]
        assert traces.parent_of("task outer") == "flow main"
        there = spans.read_spans(file)
        assert there["query"][1] == place[1]
        assert there["task inner"][1] == there["query"][0]
        assert there["inner query"][1] == there["task inner"][0]
        assert traces.spans("task inner") == [], "the worker has told of it"

    def test_baggage_goes_along(self, engine: Engine) -> None:
        @task
        def customer() -> object:
            return baggage.get_baggage("customer")

        token = context.attach(baggage.set_baggage("customer", "ada"))
        try:
            assert customer.submit().result() == "ada"
        finally:
            context.detach(token)
        assert customer.submit().result() is None

    def test_metrics_count_what_ran_there(self, traces: Traces, file: Path) -> None:
        @task
        def inner(fails: bool) -> None:
            if fails:
                raise ValueError

        @task
        def outer() -> None:
            inner(False)
            inner(True, return_state=True)

        runner = ProcessPoolTaskRunner(1, initializer=spans.trace_into, initargs=(file,))
        with Engine(runner, sinks=[traces.sink()]):
            outer.submit().result()
        ended = {key: point.count for key, point in traces.points("penstock.run.duration").items()}
        assert ended == {("outer", "COMPLETED"): 1, ("inner", "COMPLETED"): 1, ("inner", "FAILED"): 1}
        assert {point.value for point in traces.points("penstock.run.active").values()} == {0}


def test_metrics_tell_how_runs_ended_and_how_many_live(traces: Traces) -> None:
    @task
    def work(number: int) -> None:
        if number == 2:
            raise ValueError

    @flow
    def main() -> None:
        for future in work.map(range(5)):
            future.exception()
        where()

    with Engine(ThreadPoolTaskRunner(2), sinks=[traces.sink()]):
        main()
    ended = traces.points("penstock.run.duration")
    assert {key: point.count for key, point in ended.items()} == {
        ("work", "COMPLETED"): 4,
        ("work", "FAILED"): 1,
        ("where", "COMPLETED"): 1,
        ("main", "COMPLETED"): 1,
    }
    assert ended["work", "FAILED"].attributes["error.type"] == "ValueError"
    assert ended["main", "COMPLETED"].sum >= ended["where", "COMPLETED"].sum > 0
    active = traces.points("penstock.run.active")
    assert {key for key, _ in active} == {"work", "where", "main"}
    assert {point.value for point in active.values()} == {0}


class Broken(SpanProcessor):
    """A processor that refuses every span."""

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        raise OSError("the collector is gone")


def test_a_tracer_that_fails_changes_nothing(engine: Engine, traces: Traces, caplog: pytest.LogCaptureFixture) -> None:
    traces.provider.add_span_processor(Broken())
    with caplog.at_level(logging.ERROR, "penstock"):
        assert flow(lambda: [where()[1], where.submit().result()[1]])() == [0, 0]
    assert "The tracer" in caplog.text
    assert "the collector is gone" in caplog.text


def run_program(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_nobody_pays_who_did_not_ask() -> None:
    done = run_program(
        "import sys\n"
        "from penstock import Engine, flow, task\n"
        "seen = []\n"
        "class Sink:\n"
        "    def emit(self, event): seen.append(event)\n"
        "@task\n"
        "def work(x): return x\n"
        "@flow\n"
        "def main(): return sum(work.map([1, 2]).result())\n"
        "with Engine(sinks=[Sink()]): assert main() == 3\n"
        "assert seen and all(event.run.trace is None for event in seen)\n"
        "assert 'opentelemetry' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_without_the_package_the_error_says_how_to_get_it() -> None:
    done = run_program(
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from penstock.errors import MissingExtra\n"
        "try:\n"
        "    import penstock.opentelemetry\n"
        "except MissingExtra as error:\n"
        "    print(error)\n"
    )
    assert done.stdout == (
        "penstock.opentelemetry needs packages that are not installed: pip install 'penstock[opentelemetry]'\n"
    ), done.stderr
