"""Futures among arguments: found wherever they are, replaced, and not looked for where there can be none."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from penstock import Engine, allow_failure, flow, quote, task
from penstock.errors import UpstreamFailed
from penstock.futures import Future
from penstock.inputs import find_inputs, replace_inputs
from penstock.states import Cancelled, Completed


class Pair(NamedTuple):
    """A named tuple with a place for a future."""

    left: Any
    right: Any = None


@dataclass
class Box:
    """A dataclass with a place for a future, and one that no caller fills."""

    value: Any
    label: str = "box"
    seen: list[Any] = field(default_factory=list, init=False)


@dataclass(frozen=True)
class Frozen:
    """A dataclass that cannot be changed."""

    value: Any


class Model(BaseModel):
    """A model with a place for a future."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any
    other: int = 0


@task
def one() -> int:
    return 1


@task
def echo(value: Any) -> Any:
    return value


@task
def word() -> str:
    return "key"


SHAPES: list[tuple[str, Callable[[Any], Any]]] = [
    ("alone", lambda f: f),
    ("list", lambda f: [0, f]),
    ("tuple", lambda f: (f, 0)),
    ("set", lambda f: {f}),
    ("frozenset", lambda f: frozenset({f})),
    ("dict value", lambda f: {"a": f}),
    ("dict key", lambda f: {f: "a"}),
    ("ordered dict", lambda f: OrderedDict(a=f)),
    ("named tuple", lambda f: Pair(f, 2)),
    ("dataclass", lambda f: Box(f)),
    ("frozen dataclass", lambda f: Frozen(f)),
    ("model", lambda f: Model(value=f)),
    ("deep", lambda f: [{"a": (Pair(Box([Model(value={"b": [f]})])),)}]),
    ("twice", lambda f: [f, [f]]),
]


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=[name for name, _ in SHAPES])
class TestShapes:
    """Whatever holds a future, the function gets the value in its place."""

    def test_submitted(self, engine: Engine, name: str, shape: Callable[[Any], Any]) -> None:
        @flow
        def run() -> Any:
            return echo.submit(shape(one.submit())).result()

        got = run()
        assert got == shape(1)
        assert type(got) is type(shape(1))

    def test_called(self, engine: Engine, name: str, shape: Callable[[Any], Any]) -> None:
        @flow
        def run() -> Any:
            return echo(value=shape(one.submit()))

        assert run() == shape(1)

    def test_of_a_subflow(self, engine: Engine, name: str, shape: Callable[[Any], Any]) -> None:
        @flow(validate_parameters=False)
        def inner(value: Any) -> Any:
            return quote(value)

        @flow
        def run() -> Any:
            return quote(inner(shape(one.submit())))

        assert run() == shape(1)


# States of unequal runs are unequal, so that a set of them has no value to compare with.
@pytest.mark.parametrize("shape", [shape for name, shape in SHAPES if "set" not in name and name != "dict key"])
def test_states_stand_for_their_values_too(default_engine: Engine, shape: Callable[[Any], Any]) -> None:
    @flow
    def run() -> Any:
        return echo(shape(one(return_state=True)))  # type: ignore[call-arg]

    assert run() == shape(1)


def test_waits_for_all_of_many(engine: Engine) -> None:
    @flow
    def run() -> Any:
        return echo.submit({"sum": [one.submit() for _ in range(100)], word.submit(): word.submit()}).result()

    assert run() == {"sum": [1] * 100, "key": "key"}


class TestIdentity:
    """What holds no future comes through as the same object."""

    @pytest.mark.parametrize(
        "value",
        [[1, [2]], {"a": {"b": 1}}, {1, 2}, Pair(1, [2]), Box([1]), Model(value=[1]), object(), [object()] * 3, "text"],
        ids=lambda value: type(value).__name__,
    )
    def test_is_kept(self, value: Any) -> None:
        assert not find_inputs((value,), {"k": value})
        assert replace_inputs(value, lambda _: None) is value

    def test_is_kept_beside_a_future(self, engine: Engine) -> None:
        kept = [1, 2, 3]

        @flow
        def run() -> Any:
            return echo.submit([one.submit(), kept]).result()

        assert run()[1] is kept

    def test_is_kept_for_dict_subclasses(self) -> None:
        value: defaultdict[str, list[int]] = defaultdict(list, a=[1])
        assert replace_inputs(value, lambda _: None) is value

    def test_survives_a_circle(self, engine: Engine) -> None:
        circle: list[Any] = [object()]
        circle.append(circle)

        @flow
        def run() -> Any:
            return quote(echo.submit(circle).result())

        assert run() is circle


values = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(), st.just("FUTURE")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=4),
        st.builds(Pair, inner, inner),
        st.builds(Box, inner),
    ),
    max_leaves=20,
)


@given(values)
def test_replacing_puts_the_value_exactly_where_the_marks_were(plan: Any) -> None:
    """An oracle: build the arguments with states in them, and beside it what shall come out."""
    state = Completed(data="VALUE")

    def build(part: Any, leaf: Any) -> Any:
        if part == "FUTURE":
            return leaf
        if isinstance(part, Pair):
            return Pair(*(build(item, leaf) for item in part))
        if isinstance(part, list | tuple):
            return type(part)(build(item, leaf) for item in part)
        if isinstance(part, dict):
            return {key: build(item, leaf) for key, item in part.items()}
        return Box(build(part.value, leaf)) if isinstance(part, Box) else part

    given_value = build(plan, state)
    found = find_inputs((given_value,), {})
    assert len(found) == repr(given_value).count(repr(state))
    assert replace_inputs(given_value, lambda _: "VALUE") == build(plan, "VALUE")


class TestMarks:
    """``quote`` and ``allow_failure`` at any depth."""

    def test_quote_hands_over_the_future_itself(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            future = one.submit()
            return echo.submit(quote(future)).result() is future, type(echo(quote([future]))[0])

        assert run() == (True, Future)

    def test_allow_failure_gives_the_exception(self, engine: Engine) -> None:
        @task
        def fail() -> None:
            raise ValueError("boom")

        @flow
        def run() -> Any:
            future = fail.submit()
            return [
                echo.submit(allow_failure(future)).result(),
                echo.submit([allow_failure(future)]).result()[0],
                echo.submit(allow_failure([future, 1])).result()[0],
            ]

        assert [str(error) for error in run()] == ["boom"] * 3

    def test_allow_failure_leaves_a_success_alone(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            return echo.submit(allow_failure(one.submit())).result()

        assert run() == 1

    def test_allow_failure_does_not_allow_a_cancellation(self, engine: Engine) -> None:
        @flow
        def run() -> Any:
            return echo(allow_failure(Cancelled(message="stopped")), return_state=True)  # type: ignore[call-arg]

        state = run(return_state=True)  # type: ignore[call-arg]
        assert isinstance(state.error, UpstreamFailed)


class TestWaitFor:
    """``wait_for`` orders runs without handing values over."""

    @pytest.mark.parametrize(
        "wrapped", [lambda f: [f], lambda f: (f,), lambda f: [[f], 3, "x"], lambda f: [allow_failure(f)]]
    )
    def test_waits(self, engine: Engine, wrapped: Callable[[Any], Any]) -> None:
        begun = threading.Event()

        @task
        def first() -> bool:
            return begun.wait(0.02)

        @task
        def second() -> None:
            begun.set()

        @flow
        def run() -> bool:
            overtaken = first.submit()
            second.submit(wait_for=wrapped(overtaken)).result()
            return overtaken.result()

        assert not run()
        assert begun.is_set()

    def test_skips_when_what_it_waits_for_failed(self, engine: Engine) -> None:
        @task
        def fail() -> None:
            raise ValueError("boom")

        @flow
        def direct() -> Any:
            return one(wait_for=[fail.submit()])  # type: ignore[call-arg]

        with pytest.raises(UpstreamFailed) as caught:
            direct()
        assert isinstance(caught.value.__cause__, ValueError)

    def test_runs_anyway_if_the_failure_is_allowed(self, engine: Engine) -> None:
        @task
        def fail() -> None:
            raise ValueError("boom")

        @flow
        def run() -> Any:
            return one.submit(wait_for=[allow_failure(fail.submit())]).result()

        assert run() == 1


def test_a_million_plain_items_are_looked_through_once() -> None:
    """The second look at a large list costs next to nothing, as a ratio to the first."""
    million = list(range(1_000_000))

    def look() -> float:
        begun = time.perf_counter()
        assert not find_inputs((million,), {})
        return time.perf_counter() - begun

    first = look()
    again = min(look() for _ in range(5))
    assert again < first / 50, f"first {first * 1e6:.0f} µs, again {again * 1e6:.0f} µs"


def test_a_large_list_that_gets_a_future_at_its_end_is_looked_at_again(engine: Engine) -> None:
    large: list[Any] = list(range(5_000))

    @flow
    def run() -> Any:
        echo.submit(large).result()
        large.append(one.submit())
        return echo.submit(large).result()[-1]

    assert run() == 1


@pytest.mark.parametrize("size", [1, 10, 999, 1_000, 1_001, 5_000])
def test_a_future_is_found_at_either_end_of_a_list_of_any_size(size: int) -> None:
    state = Completed(data=1)
    assert len(find_inputs(([state, *range(size)],), {})) == 1
    assert len(find_inputs(([*range(size), state],), {})) == 1
    assert len(find_inputs((dict(enumerate([*range(size), state])),), {})) == 1
