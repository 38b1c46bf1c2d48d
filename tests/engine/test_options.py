"""Options of flows and tasks: names, templates, copies with changes, timeouts, hooks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from worlds import World

from penstock import Engine, State, flow, runtime, tags, task
from penstock.errors import ConfigurationError, TimedOut
from penstock.runners import SequentialTaskRunner, ThreadPoolTaskRunner
from penstock.testing import VirtualClock, penstock_test_harness

WATCHDOG = 5.0
MAKERS = [flow, task]


@pytest.mark.parametrize("made", MAKERS)
class TestDefinition:
    """What a decorator makes of a function and its options."""

    def test_takes_name_description_and_version_from_the_function_or_the_options(self, made: Any) -> None:
        def work() -> None:
            """What it does."""

        plain = made(work)
        assert (plain.name, plain.description, plain.version) == ("work", "What it does.", None)
        named = made(name="other", description="else", version="7", tags=["a"])(work)
        assert (named.name, named.description, named.version, named.tags) == ("other", "else", "7", frozenset("a"))

    def test_copies_with_some_options_changed(self, made: Any) -> None:
        original = made(name="first", retries=3, retry_delay_seconds=5, tags=["a"], timeout_seconds=9)(lambda: 1)
        changed = original.with_options(name="second", tags=["b"])
        assert (changed.name, changed.tags, changed.retry, changed.timeout_seconds) == (
            "second",
            frozenset("b"),
            original.retry,
            9,
        )
        assert (original.name, original.tags) == ("first", frozenset("a"))
        assert changed is not original
        assert changed.fn is original.fn

    def test_copies_with_options_cleared(self, made: Any) -> None:
        calls: list[str] = []
        original = made(
            retries=3,
            timeout_seconds=9,
            tags=["a"],
            name="custom",
            on_completion=[lambda *_: calls.append("hook")],
            log_prints=True,
        )(lambda: 1)
        cleared = original.with_options(
            retries=None, timeout_seconds=None, tags=[], name=None, on_completion=[], log_prints=None
        )
        assert cleared.retry.retries == 0
        assert (cleared.timeout_seconds, cleared.tags, cleared.name, cleared.log_prints) == (
            None,
            frozenset(),
            "<lambda>",
            None,
        )
        assert cleared() == original() == 1
        assert calls == ["hook"]

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"timeout_seconds": 0}, "timeout_seconds=0"),
            ({"timeout_seconds": -1}, "above 0"),
            ({"timeout_seconds": "5"}, "timeout_seconds='5'"),
            ({"tags": "abc"}, "list of strings"),
            ({"tags": 5}, "tags=5"),
            ({"on_completion": print}, "on_completion=.*list"),
            ({"on_failure": [5]}, "on_failure has 5"),
        ],
    )
    def test_refuses_what_cannot_work_and_names_it(self, made: Any, options: dict[str, Any], says: str) -> None:
        with pytest.raises(ConfigurationError, match=says) as caught:
            made(**options)(lambda: None)
        assert made.__name__ in str(caught.value)

    def test_tells_what_kind_of_function_it_has(self, made: Any) -> None:
        async def coroutine() -> None: ...
        def generator() -> Any:
            yield 1

        async def async_generator() -> Any:
            yield 1

        kinds = [(made(fn).is_async, made(fn).is_generator) for fn in (coroutine, generator, async_generator)]
        assert kinds == [(True, False), (False, True), (True, True)]
        assert made(coroutine).isasync
        assert made(generator).isgenerator


class TestRunNames:
    """Names of runs: friendly, templates, functions."""

    def test_of_flows_are_two_words(self, engine: Engine) -> None:
        names = {flow(lambda: runtime.flow_run.name)() for _ in range(20)}
        assert all(len(name.split("-")) == 2 and name.isascii() for name in names if name)
        assert len(names) > 5

    def test_of_tasks_begin_with_the_tasks(self, engine: Engine) -> None:
        @task
        def work() -> Any:
            return runtime.task_run.name

        names = [work(), work()]
        assert all(name.startswith("work-") for name in names)
        assert names[0] != names[1]

    @pytest.mark.parametrize(
        "template",
        [
            "{city}-{day:02d}",
            lambda parameters: f"{parameters['city']}-{parameters['day']:02d}",
            lambda: f"{runtime_city()}-03",
        ],
        ids=["template", "function", "function without parameters"],
    )
    def test_are_made_of_parameters(self, engine: Engine, template: Any) -> None:
        @task(task_run_name=template)
        def work(city: str, day: int = 3) -> Any:
            return runtime.task_run.name

        @flow(flow_run_name=template)
        def run(city: str, day: int = 3) -> Any:
            return [runtime.flow_run.name, work(city), work.submit(city).result(), work.submit(city=city).name]

        assert run("rome") == ["rome-03"] * 4


def runtime_city() -> str:
    return "rome"


class TestTags:
    """Tags of definitions and of the blocks around calls."""

    def test_add_up(self, world: World, engine: Engine) -> None:
        async def tags_of_task() -> Any:
            return sorted(runtime.task_run.tags)

        work = task(tags=["task"])(world.function(tags_of_task))

        async def body() -> Any:
            with tags("inner", "more"):
                inside = [await world.get(work()), await world.get(work.submit())]
            return sorted(runtime.flow_run.tags), inside, await world.get(work())

        run = flow(tags=["flow"])(world.function(body))

        async def call() -> Any:
            with tags("outer") as names:
                assert names == {"outer"}
                return await world.get(run())

        of_flow, inside, after = world.run(world.function(call))
        assert of_flow == ["flow", "outer"]
        assert inside == [["inner", "more", "outer", "task"]] * 2
        assert after == ["outer", "task"]


class TestTimeouts:
    """A run that takes too long is told so on time."""

    @pytest.mark.parametrize("submitted", [False, True], ids=["called", "submitted"])
    def test_of_a_coroutine(self, submitted: bool) -> None:
        clock = VirtualClock()
        cleaned: list[str] = []

        @task(timeout_seconds=60)
        async def slow() -> None:
            try:
                await asyncio.sleep(WATCHDOG)
            finally:
                cleaned.append("finally")

        @flow
        async def run() -> Any:
            call = asyncio.ensure_future(asyncio.to_thread(clock.wait_for_timers))
            attempt = asyncio.ensure_future(_outcome(slow.submit() if submitted else slow()))
            assert await call == [60]
            clock.advance(59.9)
            await asyncio.sleep(0)
            assert not attempt.done()
            clock.advance(0.2)
            return await attempt

        with penstock_test_harness(clock=clock):
            error = asyncio.run(run())
        assert isinstance(error, TimedOut)
        assert isinstance(error, TimeoutError)
        assert "60" in str(error)
        assert cleaned == ["finally"]

    @pytest.mark.parametrize("runner", [SequentialTaskRunner, ThreadPoolTaskRunner])
    @pytest.mark.parametrize("submitted", [False, True], ids=["called", "submitted"])
    def test_of_a_function_leaves_its_thread_in_the_ledger(self, runner: Any, submitted: bool) -> None:
        clock, gate = VirtualClock(), threading.Event()
        ended = threading.Event()

        @task(timeout_seconds=60, task_run_name="stuck")
        def slow() -> None:
            gate.wait(WATCHDOG)
            ended.set()

        @flow
        def run() -> Any:
            threading.Thread(target=lambda: clock.wait_for_timers() and clock.advance(61)).start()
            try:
                return slow.submit().result() if submitted else slow()
            except TimedOut as error:
                return error

        with penstock_test_harness(runner, clock=clock):
            assert isinstance(run(), TimedOut)
            assert [entry.run for entry in runtime.overdue()] == ["stuck"]
            gate.set()
            assert ended.wait(WATCHDOG)
        _until(lambda: not runtime.overdue())

    def test_of_a_flow_stops_what_it_started(self) -> None:
        clock = VirtualClock()
        states: list[Any] = []

        @task
        async def child() -> None:
            await asyncio.sleep(WATCHDOG)

        @flow(timeout_seconds=10)
        async def run() -> None:
            future = child.submit()
            states.append(future)
            await future

        async def main() -> Any:
            attempt = asyncio.ensure_future(_outcome(run()))
            await asyncio.to_thread(clock.wait_for_timers)
            clock.advance(11)
            return await attempt

        with penstock_test_harness(clock=clock):
            assert isinstance(asyncio.run(main()), TimedOut)
        assert states[0].state.name == "Cancelled"

    def test_is_a_state_of_its_own_name_and_is_retried(self) -> None:
        clock = VirtualClock()
        entered: list[int] = []

        @task(timeout_seconds=10, retries=1)
        async def sometimes_slow() -> str:
            entered.append(1)
            if len(entered) == 1:
                await asyncio.sleep(WATCHDOG)
            return "second"

        seen: list[Any] = []

        async def main() -> Any:
            future = sometimes_slow.submit()
            await asyncio.to_thread(clock.wait_for_timers)
            clock.advance(10)
            value = await future
            seen.extend(state.name for state in future.run.history)
            return value

        with penstock_test_harness(clock=clock):
            assert asyncio.run(main()) == "second"
        assert seen == ["Pending", "Running", "Retrying", "Completed"]

    def test_final_state_is_called_timed_out(self) -> None:
        clock = VirtualClock()

        @task(timeout_seconds=10)
        async def slow() -> None:
            await asyncio.sleep(WATCHDOG)

        async def main() -> Any:
            future = slow.submit()
            await asyncio.to_thread(clock.wait_for_timers)
            clock.advance(10)
            await _outcome(future)
            return future.state

        with penstock_test_harness(clock=clock):
            state = asyncio.run(main())
        assert (state.name, state.type.value) == ("TimedOut", "FAILED")

    def test_of_somebody_else_is_an_ordinary_failure(self, engine: Engine) -> None:
        @task(timeout_seconds=60)
        def fails() -> None:
            raise TimeoutError("the database's own")

        assert fails(return_state=True).name == "Failed"  # type: ignore[call-arg, attr-defined]


async def _outcome(awaitable: Any) -> Any:
    try:
        return await awaitable
    except Exception as error:
        return error


def _until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(int(WATCHDOG / 0.001)):
        if condition():
            return
        done.wait(0.001)
    raise AssertionError("it never happened")


class Hooks:
    """Remembers which hooks were called, in order."""

    NAMES = ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crashed")

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arguments: list[tuple[Any, Any, State]] = []

    def options(self, is_async: bool) -> dict[str, Any]:
        return {name: [self._hook(name, is_async)] for name in self.NAMES}

    def _hook(self, name: str, is_async: bool) -> Callable[..., Any]:
        def note(definition: Any, run: Any, state: State) -> None:
            self.calls.append(name)
            self.arguments.append((definition, run, state))

        async def note_async(definition: Any, run: Any, state: State) -> None:
            await asyncio.sleep(0)
            note(definition, run, state)

        return note_async if is_async else note


@pytest.mark.parametrize("made", MAKERS)
class TestHooks:
    """Functions that are called when a run takes a state."""

    @pytest.mark.parametrize("is_async", [False, True], ids=["sync hooks", "async hooks"])
    @pytest.mark.parametrize("submitted", [False, True], ids=["called", "submitted"])
    def test_are_called_in_order(
        self, world: World, engine: Engine, made: Any, is_async: bool, submitted: bool
    ) -> None:
        hooks = Hooks()

        async def once_wrong() -> str:
            hooks.calls.append("body")
            if hooks.calls.count("body") == 1:
                raise ValueError("first")
            return "value"

        work = made(retries=1, **hooks.options(is_async))(world.function(once_wrong))
        submitted = submitted and made is task

        async def body() -> Any:
            return await world.get(work.submit() if submitted else work())

        assert world.run(flow(world.function(body))) == "value"
        assert hooks.calls == ["on_running", "body", "on_running", "body", "on_completion"]
        definition, run, state = hooks.arguments[-1]
        assert definition is work
        assert state.is_completed()
        assert run.state == state

    @pytest.mark.parametrize(
        ("error", "expected"),
        [(ValueError("boom"), "on_failure"), (SystemExit(2), "on_crashed"), (KeyboardInterrupt(), "on_cancellation")],
        ids=repr,
    )
    def test_of_the_other_ends(self, engine: Engine, made: Any, error: BaseException, expected: str) -> None:
        hooks = Hooks()

        def body() -> None:
            raise error

        with pytest.raises(type(error)):
            made(**hooks.options(False))(body)()
        assert hooks.calls == ["on_running", expected]

    def test_can_be_added_with_decorators(self, engine: Engine, made: Any) -> None:
        calls: list[str] = []
        work = made(on_completion=[lambda *_: calls.append("first")])(lambda: 1)

        @work.on_completion
        def second(*_: Any) -> None:
            calls.append("second")

        assert work() == 1
        assert calls == ["first", "second"]
        second()
        assert work.with_options(name="copy")() == 1
        assert calls == ["first", "second", "second", "first", "second"]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_that_fail_change_nothing(
        self, engine: Engine, made: Any, is_async: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls: list[str] = []

        def breaks(*_: Any) -> None:
            raise KeyError("broken hook")

        async def breaks_async(*_: Any) -> None:
            raise KeyError("broken hook")

        hook = breaks_async if is_async else breaks
        work = made(on_running=[hook], on_completion=[hook, lambda *_: calls.append("next")])(lambda: 1)
        assert work() == 1
        assert calls == ["next"]
        assert caplog.text.count("KeyError: 'broken hook'") == 2
        assert hook.__name__ in caplog.text

    def test_see_the_run_as_current(self, engine: Engine, made: Any) -> None:
        names: list[Any] = []

        def note(_definition: Any, run: Any, _state: State) -> None:
            facts = runtime.task_run if made is task else runtime.flow_run
            names.append((facts.name, run.name))

        made(on_completion=[note])(lambda: 1)()
        assert names[0][0] == names[0][1]
