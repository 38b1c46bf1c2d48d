"""Arguments: refused early, with the place named, or bound, converted and handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from penstock import flow, task
from penstock.errors import ParameterBindError, ParameterTypeError, ReservedArgumentError

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers

MAKERS = [flow, task]


@pytest.mark.parametrize("made", MAKERS)
class TestBinding:
    """Arguments that do not fit the signature are refused before a run exists."""

    @pytest.mark.parametrize(
        ("args", "kwargs", "says"),
        [
            ((), {}, "missing a required argument: 'a'"),
            ((1, 2, 3), {}, "too many positional arguments"),
            ((1,), {"a": 2}, "multiple values for argument 'a'"),
            ((1,), {"c": 2}, "unexpected keyword argument 'c'"),
        ],
    )
    def test_names_the_definition_its_signature_and_the_mistake(
        self, made: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], says: str
    ) -> None:
        entered: list[int] = []

        @made
        def add(a: int, b: int = 0) -> None:
            entered.append(1)

        with pytest.raises(ParameterBindError, match=says) as caught:
            add(*args, **kwargs)
        assert str(add) in str(caught.value)
        assert "b: 'int' = 0" in str(caught.value)
        assert isinstance(caught.value, TypeError)
        assert not entered

    def test_also_of_coroutine_functions_at_the_call(self, made: Callable[..., Any]) -> None:
        @made
        async def one(a: int) -> int:
            return a

        with pytest.raises(ParameterBindError, match="missing"):
            one()

    @pytest.mark.parametrize("name", ["return_state", "wait_for"])
    def test_refuses_parameters_that_calls_use(self, made: Callable[..., Any], name: str) -> None:
        namespace: dict[str, Any] = {}
        exec(f"def clash({name}): ...", namespace)
        with pytest.raises(ReservedArgumentError, match=f"{name}.*rename"):
            made(namespace["clash"])

    def test_reaches_every_kind_of_parameter(self, made: Callable[..., Any]) -> None:
        @made
        def everything(a: Any, /, b: Any, *rest: Any, c: Any, d: Any = 4, **more: Any) -> Any:
            return a, b, rest, c, d, more

        assert everything(1, 2, 3, 4, c=5, e=6) == (1, 2, (3, 4), 5, 4, {"e": 6})
        assert everything(1, b=2, c=3, d=0) == (1, 2, (), 3, 0, {})

    def test_lets_a_failed_bind_of_submit_start_nothing(self, made: Callable[..., Any]) -> None:
        entered: list[int] = []

        @task
        def work(a: int) -> None:
            entered.append(a)

        @flow
        def run() -> None:
            with pytest.raises(ParameterBindError):
                work.submit(1, 2)
            with pytest.raises(ParameterBindError):
                work.map([1], b=2)

        run()
        assert not entered


class Point(BaseModel):
    """A model as users write them."""

    x: int
    y: int = 0


@dataclass
class Box:
    """A dataclass as users write them."""

    width: int
    label: str = ""


class Handmade:
    """A type that pydantic knows nothing of."""


class TestValidation:
    """A flow's arguments are checked against its annotations, and converted."""

    @pytest.mark.parametrize(
        ("annotation", "given", "expected"),
        [
            (int, "3", 3),
            (float, 3, 3.0),
            (date, "2013-01-02", date(2013, 1, 2)),
            (list[int], ["1", 2], [1, 2]),
            (dict[str, float], {"a": "1.5"}, {"a": 1.5}),
            (Point, {"x": "1"}, Point(x=1)),
            (Box, {"width": "2"}, Box(2)),
            (int | None, None, None),
            (Literal["a", "b"], "b", "b"),
            (Annotated[int, Field(gt=0)], 1, 1),
            (Any, "3", "3"),
        ],
        ids=str,
    )
    def test_converts(self, annotation: Any, given: Any, expected: Any) -> None:
        def echo(value: Any) -> Any:
            return value

        echo.__annotations__["value"] = annotation
        value = flow(echo)(given)
        assert value == expected
        assert type(value) is type(expected)

    @pytest.mark.parametrize(
        ("annotation", "given", "place"),
        [
            (int, "three", "value"),
            (list[int], [1, "two"], r"value\.1"),
            (Point, {"x": "one"}, r"value\.x"),
            (Literal["a", "b"], "c", "value"),
            (Annotated[int, Field(gt=0)], -1, "greater than 0"),
        ],
        ids=str,
    )
    def test_names_the_flow_the_parameter_and_the_place_inside(self, annotation: Any, given: Any, place: str) -> None:
        entered: list[int] = []

        def echo(value: Any) -> None:
            entered.append(1)

        echo.__annotations__["value"] = annotation
        with pytest.raises(ParameterTypeError, match=place) as caught:
            flow(echo)(given)
        assert "flow 'echo', parameter 'value'" in str(caught.value)
        assert not entered

    def test_of_variadic_parameters(self) -> None:
        @flow
        def many(*numbers: int, **options: float) -> Any:
            return numbers, options

        assert many("1", 2, a="3.5") == ((1, 2), {"a": 3.5})
        with pytest.raises(ParameterTypeError, match="numbers"):
            many("x")
        with pytest.raises(ParameterTypeError, match="parameter 'a'"):
            many(a="x")

    def test_keeps_the_identity_of_what_needs_no_conversion(self) -> None:
        handmade, numbers = Handmade(), [1, 2]

        @flow
        def same(value: Handmade, numbers: list, anything) -> tuple[Any, ...]:  # type: ignore[no-untyped-def,type-arg]
            return value, numbers, anything

        got = same(handmade, numbers, numbers)
        assert got[0] is handmade
        assert got[1] is numbers
        assert got[2] is numbers

    def test_checks_types_that_pydantic_does_not_know(self) -> None:
        @flow
        def needs(value: Handmade) -> None: ...

        with pytest.raises(ParameterTypeError, match="Handmade"):
            needs("no")  # type: ignore[arg-type]

    def test_resolves_forward_references(self) -> None:
        @flow
        def later(value: Later) -> Later:
            return value

        assert later({"n": "4"}) == Later(n=4)  # type: ignore[arg-type]

    def test_leaves_alone_what_exists_for_type_checkers_only(self) -> None:
        @flow
        def odd(value: OnlyForCheckers, number: int) -> Any:
            return value, number

        value, _ = odd("1.5", 2)  # type: ignore[arg-type]
        assert value == "1.5"

    def test_can_be_switched_off_and_on(self) -> None:
        @flow(validate_parameters=False)
        def loose(value: int) -> Any:
            return value

        assert loose("3") == "3"  # type: ignore[arg-type]
        assert loose.with_options(validate_parameters=True)("3") == 3  # type: ignore[arg-type]

    def test_is_a_failed_run_with_return_state(self) -> None:
        @flow
        def needs(value: int) -> None: ...

        state = needs("no", return_state=True)  # type: ignore[call-arg,arg-type]
        assert state.is_failed()
        assert isinstance(state.error, ParameterTypeError)

    def test_is_not_retried(self) -> None:
        hooks: list[str] = []

        @flow(retries=3, on_running=[lambda *_: hooks.append("running")])
        def needs(value: int) -> None: ...

        with pytest.raises(ParameterTypeError):
            needs("no")  # type: ignore[arg-type]
        assert not hooks

    def test_happens_for_coroutine_functions_too(self) -> None:
        @flow
        async def echo(value: int) -> int:
            return value

        assert asyncio.run(echo("3")) == 3  # type: ignore[arg-type]
        with pytest.raises(ParameterTypeError, match="'value'"):
            asyncio.run(echo("x"))  # type: ignore[arg-type]

    def test_can_be_asked_for_alone(self) -> None:
        @flow
        def needs(value: int, other: str = "") -> None: ...

        assert needs.validate_parameters({"value": "3"}) == {"value": 3}
        with pytest.raises(ParameterTypeError):
            needs.validate_parameters({"value": "x"})

    def test_is_no_business_of_tasks(self) -> None:
        @task
        def echo(value: int) -> Any:
            return value

        assert echo("3") == "3"  # type: ignore[arg-type]


class Later(BaseModel):
    """Defined after the flow that names it."""

    n: int


def test_fn_is_the_function_itself_and_starts_no_run() -> None:
    from penstock.context import current_run

    @task(retries=3)
    def work(a: int) -> Any:
        return a, current_run.get()

    assert work.fn(1) == (1, None)
    assert work.__name__ == "work"
    assert work.__wrapped__ is work.fn  # type: ignore[attr-defined]
