"""How a flow ends: what it returned, what it left behind, and whose failure it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from worlds import World

from penstock import Engine, State, allow_failure, flow, quote, task
from penstock.errors import (
    CancelledRun,
    ConfigurationError,
    CrashedRun,
    FailedRun,
    UnhandledFailures,
    UpstreamFailed,
)
from penstock.futures import Future
from penstock.runners import ThreadPoolTaskRunner
from penstock.states import Cancelled, Completed, Crashed, Failed, Paused, Pending, Running, Scheduled, Skipped
from penstock.testing import penstock_test_harness

WATCHDOG = 5.0


@task
def good(value: Any = 1) -> Any:
    return value


@task
def bad(text: str = "boom") -> Any:
    raise ValueError(text)


def ends(body: Callable[[], Any]) -> State:
    """The final state of a flow with this body."""
    return flow(body)(return_state=True)  # type: ignore[call-arg, no-any-return]


class TestReturnedData:
    """A flow that returns plain data completes with it."""

    @pytest.mark.parametrize("value", [None, 0, "x", [], {}, [1, "a"], {"a": [1]}, object()], ids=repr)
    def test_is_its_value(self, default_engine: Engine, value: Any) -> None:
        @flow
        def run() -> Any:
            return value

        assert run() is value
        assert ends(lambda: value).name == "Completed"

    def test_quoted_is_not_looked_into(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            future = good.submit()
            future.wait()
            return quote([future])

        assert isinstance(run()[0], Future)


class TestReturnedFutures:
    """A flow that returns futures gives their values, and ends as they do."""

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            (lambda f, g: f, 1),
            (lambda f, g: [f, g], [1, 2]),
            (lambda f, g: (f, g), (1, 2)),
            (lambda f, g: {"a": f, "b": [g]}, {"a": 1, "b": [2]}),
            (lambda f, g: (f, "plain", g), (1, "plain", 2)),
            (lambda f, g: [[f], [g]], [[1], [2]]),
        ],
    )
    def test_gives_values(self, world: World, engine: Engine, shape: Callable[[Any, Any], Any], expected: Any) -> None:
        async def body() -> Any:
            return shape(good.submit(1), good.submit(2))

        assert world.run(flow(world.function(body))) == expected

    @pytest.mark.parametrize(
        "shape",
        [
            lambda f, g: g,
            lambda f, g: [f, g],
            lambda f, g: (f, g),
            lambda f, g: {"a": f, "b": g},
            lambda f, g: (f, "plain", [g]),
        ],
    )
    def test_fails_with_the_childs_exception(
        self, world: World, engine: Engine, shape: Callable[[Any, Any], Any]
    ) -> None:
        async def body() -> Any:
            return shape(good.submit(1), bad.submit())

        with pytest.raises(ValueError, match="boom"):
            world.run(flow(world.function(body)))

    def test_gives_states_with_return_state(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            return [good.submit(1), good.submit(2)]

        state = run(return_state=True)  # type: ignore[call-arg]
        assert state.is_completed()  # type: ignore[attr-defined]
        assert [child.result() for child in state.result()] == [1, 2]  # type: ignore[attr-defined]

    def test_counts_what_did_not_complete(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            return [good.submit(), bad.submit(), bad.submit()]

        state = run(return_state=True)  # type: ignore[call-arg]
        assert state.name == "Failed"  # type: ignore[attr-defined]
        assert "2/3" in state.message  # type: ignore[attr-defined]

    def test_of_a_map(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            return good.map([1, 2, 3])

        assert run() == [1, 2, 3]


class TestReturnedStates:
    """A state that the author made is the flow's own."""

    @pytest.mark.parametrize(
        ("state", "name", "error"),
        [
            (Completed(name="Custom", data=3), "Custom", None),
            (Completed(message="fine"), "Completed", None),
            (Failed(message="no"), "Failed", FailedRun),
            (Failed(data=KeyError("k")), "Failed", KeyError),
            (Cancelled(message="enough"), "Cancelled", CancelledRun),
            (Crashed(message="gone"), "Crashed", CrashedRun),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("made", [flow, task])
    def test_is_used_as_it_is(
        self, default_engine: Engine, made: Any, state: State, name: str, error: type[Exception] | None
    ) -> None:
        run = made(lambda: state)
        final = run(return_state=True)
        assert (final.name, final.message) == (name, state.message)
        if error is None:
            assert run() == state.data
        else:
            with pytest.raises(error):
                run()

    @pytest.mark.parametrize("state", [Pending(), Running(), Scheduled(), Paused()], ids=repr)
    @pytest.mark.parametrize("made", [flow, task])
    def test_that_is_no_end_is_a_failure(self, default_engine: Engine, made: Any, state: State) -> None:
        final = made(lambda: state)(return_state=True)
        assert final.name == "Failed"
        assert "not final" in final.message

    @pytest.mark.parametrize("made", [flow, task])
    def test_that_skips_is_a_failure(self, default_engine: Engine, made: Any) -> None:
        with pytest.raises(UpstreamFailed, match="no input"):
            made(lambda: Skipped(message="no input"))()

    @pytest.mark.parametrize(
        ("states", "name"),
        [
            ([Completed(), Completed()], "Completed"),
            ([Completed(), Failed()], "Failed"),
            ([Failed(), Cancelled()], "Cancelled"),
            ([Skipped(), Completed()], "Failed"),
        ],
    )
    def test_in_a_list_are_summed_up(self, default_engine: Engine, states: list[State], name: str) -> None:
        assert ends(lambda: states).name == name

    def test_of_a_child(self, engine: Engine) -> None:
        assert ends(lambda: bad(return_state=True)).name == "Failed"  # type: ignore[call-arg]
        assert ends(lambda: good(return_state=True)).result() == 1  # type: ignore[call-arg]

    def test_among_plain_data_are_data(self, engine: Engine) -> None:
        got = ends(lambda: {"state": bad(return_state=True)})  # type: ignore[call-arg]
        assert got.is_completed()
        assert got.result()["state"].is_failed()


class TestUnhandledFailures:
    """A submitted run that failed without anybody looking fails its flow, by name."""

    def test_fail_the_flow_and_are_named(self, world: World, engine: Engine) -> None:
        async def body() -> str:
            bad.with_options(task_run_name="the-culprit").submit("deep")
            good.submit()
            return "done"

        with pytest.raises(UnhandledFailures, match="the-culprit") as caught:
            world.run(flow(world.function(body)))
        assert isinstance(caught.value.__cause__, ValueError)
        assert "deep" in str(caught.value)
        assert isinstance(caught.value, FailedRun)

    def test_are_counted(self, engine: Engine) -> None:
        with pytest.raises(UnhandledFailures, match=r"7 submitted.*and 2 more"):
            flow(lambda: bad.map(["x"] * 7) and None)()

    def test_that_skipped_others_show_their_cause(self, engine: Engine) -> None:
        def body() -> None:
            good.submit(bad.submit("root"))

        with pytest.raises(UnhandledFailures) as caught:
            flow(body)()
        assert str(caught.value.__cause__) == "root"

    @pytest.mark.parametrize(
        "look",
        [
            lambda future: future.state,
            lambda future: future.exception(),
            lambda future: future.result(raise_on_failure=False),
            lambda future: good.submit(allow_failure(future)).result() and None,
        ],
        ids=["state", "exception", "result", "allow_failure"],
    )
    def test_looked_at_are_the_authors_business(self, engine: Engine, look: Callable[[Any], Any]) -> None:
        def body() -> str:
            future = bad.submit()
            future.wait()
            look(future)
            return "done"

        assert flow(body)() == "done"

    def test_caught_are_the_authors_business(self, world: World, engine: Engine) -> None:
        async def body() -> str:
            try:
                await world.get(bad.submit())
            except ValueError as error:
                return f"caught {error}"
            return "nothing"

        assert world.run(flow(world.function(body))) == "caught boom"

    def test_waited_for_without_a_look_are_unhandled(self, engine: Engine) -> None:
        def body() -> None:
            bad.submit().wait()

        with pytest.raises(UnhandledFailures):
            flow(body)()

    def test_of_a_downstream_that_was_looked_at_cover_the_upstream(self, engine: Engine) -> None:
        def body() -> str:
            downstream = good.submit(good.submit(bad.submit("root")))
            return type(downstream.exception()).__name__

        assert flow(body)() == "UpstreamFailed"

    def test_of_an_async_task(self, world: World, engine: Engine) -> None:
        @task
        async def bad_async() -> None:
            raise ValueError("async boom")

        async def body() -> None:
            bad_async.submit()

        with pytest.raises(UnhandledFailures, match="async boom"):
            world.run(flow(world.function(body)))

    def test_are_tried_again_with_the_flow(self, engine: Engine) -> None:
        entered: list[int] = []

        @flow(retries=1)
        def run() -> str:
            entered.append(1)
            (bad if len(entered) == 1 else good).submit("x")
            return "second time"

        assert run() == "second time"

    def test_called_directly_are_like_any_exception(self, world: World, engine: Engine) -> None:
        async def body() -> str:
            try:
                bad()
            except ValueError:
                return "caught"
            return "nothing"

        assert world.run(flow(world.function(body))) == "caught"


class TestUpstreamFailures:
    """A run whose input failed is skipped, and says why."""

    def test_five_levels_up_are_the_cause_of_what_the_flow_raises(self, world: World, engine: Engine) -> None:
        raised: list[BaseException] = []

        @task
        def root() -> None:
            raised.append(ValueError("level 0"))
            raise raised[0]

        async def body() -> Any:
            future: Any = root.submit()
            for level in range(1, 6):
                future = good.with_options(task_run_name=f"level-{level}").submit(future)
            return await world.get(future)

        with pytest.raises(UpstreamFailed, match=r"level-5.*root") as caught:
            world.run(flow(world.function(body)))
        assert caught.value.__cause__ is raised[0]

    def test_leave_the_function_alone(self, engine: Engine) -> None:
        entered: list[int] = []

        @task
        def downstream(value: Any) -> None:
            entered.append(1)

        def body() -> tuple[str, str]:
            future = downstream.submit(bad.submit())
            future.wait()
            return future.state.name, future.state.type.value

        assert flow(body)() == ("UpstreamFailed", "SKIPPED")
        assert not entered

    def test_of_a_direct_call_are_raised(self, engine: Engine) -> None:
        with pytest.raises(UpstreamFailed) as caught:
            flow(lambda: good(bad.submit("root")))()
        assert str(caught.value.__cause__) == "root"

    def test_of_a_subflow_are_raised(self, engine: Engine) -> None:
        @flow
        def inner(value: Any) -> Any:
            return value

        with pytest.raises(UpstreamFailed) as caught:
            flow(lambda: inner(bad.submit("root")))()
        assert str(caught.value.__cause__) == "root"

    def test_name_the_same_upstream_however_the_race_went(self, engine: Engine) -> None:
        def body() -> str:
            futures = bad.map(["first", "second", "third"])
            return str(good.submit(futures).exception().__cause__)

        assert flow(body)() == "first"


class TestOnUnfinished:
    """What becomes of submitted runs that have not ended when the function returns."""

    def test_wait_is_the_default(self, world: World, engine: Engine) -> None:
        ended: list[str] = []

        @task
        async def slow() -> None:
            await asyncio.sleep(0.02)  # the work, which the flow's function does not wait for
            ended.append("slow")

        async def body() -> str:
            slow.submit()
            return "returned"

        assert world.run(flow(world.function(body))) == "returned"
        assert ended == ["slow"]

    def test_cancel(self) -> None:
        entered, gate = threading.Event(), threading.Event()
        started: list[int] = []

        @task
        def held() -> None:
            entered.set()
            gate.wait(WATCHDOG)

        @task
        def queued() -> None:
            started.append(1)

        with penstock_test_harness(ThreadPoolTaskRunner(1)):
            futures: list[Future[Any]] = []

            @flow(on_unfinished="cancel")
            def run() -> str:
                futures.append(held.submit())
                entered.wait(WATCHDOG)
                futures.extend(queued.submit() for _ in range(3))
                return "returned"

            assert run() == "returned"
            assert [future.state.name for future in futures] == ["Cancelled"] * 4
            gate.set()
        assert not started

    def test_cancel_spares_what_is_returned(self, engine: Engine) -> None:
        @flow(on_unfinished="cancel")
        def run() -> Any:
            return good.submit(5)

        assert run() == 5

    def test_detach(self) -> None:
        gate = threading.Event()

        @task
        def held() -> str:
            assert gate.wait(WATCHDOG)
            return "held"

        with penstock_test_harness(ThreadPoolTaskRunner(1)):
            futures: list[Future[str]] = []

            @flow(on_unfinished="detach")
            def run() -> str:
                futures.append(held.submit())
                return "returned"

            assert run() == "returned"
            assert not futures[0].done
            gate.set()
            assert futures[0].result(timeout=WATCHDOG) == "held"

    def test_refuses_another_word(self) -> None:
        with pytest.raises(ConfigurationError, match=r"on_unfinished='abandon'"):
            flow(on_unfinished="abandon")(lambda: None)  # type: ignore[call-overload]


class TestExceptions:
    """What a function raises is what its caller gets."""

    @pytest.mark.parametrize("made", [flow, task])
    def test_identity_is_kept(self, default_engine: Engine, world: World, made: Any) -> None:
        error = KeyError("mine")

        async def body() -> None:
            raise error

        run = made(world.function(body))

        async def outer() -> Any:
            return await world.get(run())

        with pytest.raises(KeyError) as caught:
            world.run(flow(world.function(outer)))
        assert caught.value is error

    @pytest.mark.parametrize("made", [flow, task])
    def test_the_message_names_kind_type_and_text(self, default_engine: Engine, made: Any) -> None:
        def body() -> None:
            raise ValueError("boom")

        state = made(body)(return_state=True)
        assert state.message == f"{made.__name__.capitalize()} run encountered an exception: ValueError: boom"

    def test_the_traceback_begins_in_the_users_function(self, engine: Engine) -> None:
        def body() -> None:
            bad.submit().result()

        state = ends(body)
        traceback = state.error.__traceback__
        assert traceback is not None
        assert traceback.tb_frame.f_code.co_name in ("body", "bad")

    @pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()], ids=repr)
    def test_an_exit_ends_the_run_and_goes_on(self, default_engine: Engine, error: BaseException) -> None:
        seen: list[State] = []

        @flow(on_crashed=[lambda _f, _r, state: seen.append(state)], on_cancellation=[lambda _f, _r, s: seen.append(s)])
        def run() -> None:
            raise error

        with pytest.raises(type(error)):
            run()
        assert len(seen) == 1
        assert seen[0].is_final()

    def test_an_exit_in_a_submitted_task_is_a_named_crash(self, engine: Engine) -> None:
        @task
        def leave() -> None:
            raise SystemExit(3)

        def body() -> str:
            future = leave.submit()
            error = future.exception()
            assert isinstance(error, CrashedRun)
            return future.state.name

        assert flow(body)() == "Crashed"
