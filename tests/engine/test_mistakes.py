"""What newcomers get wrong, and the one clear answer to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from penstock import Engine, flow, get_run_logger, task, unmapped
from penstock.errors import (
    ConfigurationError,
    InvalidCall,
    MappingLengthMismatch,
    MappingMissingIterable,
    MissingContextError,
    ParameterBindError,
    ParameterTypeError,
    SerializationError,
    UnhandledFailures,
    UpstreamFailed,
    WouldBlock,
)
from penstock.results import ResultStore
from penstock.runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner


@task
def increase(number: int) -> int:
    return number + 1


@task
def add(left: int, right: int) -> int:
    return left + right


@flow
def typed(count: int, names: list[str]) -> int:
    return count


@flow
async def slow(count: int) -> int:
    return count


MISTAKES: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("an option misspelt", lambda: task(retry=3), ConfigurationError, "did you mean 'retries'"),
    ("a flow option misspelt", lambda: flow(task_runer=None), ConfigurationError, "did you mean 'task_runner'"),
    ("the end of an option's name", lambda: flow(runner=None), ConfigurationError, "did you mean 'task_runner'"),
    ("retries as text", lambda: task(retries="3"), ConfigurationError, "retries='3'; give a whole number"),
    ("negative retries", lambda: task(retries=-1), ConfigurationError, "retries=-1 is negative"),
    ("a timeout of nothing", lambda: task(timeout_seconds=0), ConfigurationError, "timeout_seconds=0"),
    ("one tag instead of a list", lambda: task(tags="nightly"), ConfigurationError, "give a list of strings"),
    ("a hook instead of a list", lambda: task(on_failure=print), ConfigurationError, "give a list of functions"),
    ("a runner's name", lambda: flow(task_runner="threads"), ConfigurationError, "no task runner"),
    ("a runner's name for an engine", lambda: Engine("threads"), ConfigurationError, "'threads'.* is no task runner"),  # type: ignore[arg-type]
    ("workers as text", lambda: ThreadPoolTaskRunner("2"), ConfigurationError, "ThreadPoolTaskRunner.max_workers='2'"),  # type: ignore[arg-type]
    ("no workers", lambda: ProcessPoolTaskRunner(0), ConfigurationError, "ProcessPoolTaskRunner.max_workers=0.: give"),
    ("a grace time as text", lambda: Engine(grace="5"), ConfigurationError, "grace='5'.: give seconds"),  # type: ignore[arg-type]
    ("started a task", lambda: Engine().start(increase, 1), InvalidCall, "<Task 'increase'>, which is no flow"),  # type: ignore[call-overload]
    ("started a function", lambda: Engine().start(len, []), InvalidCall, "which is no flow: decorate"),  # type: ignore[call-overload]
    ("started the call", lambda: Engine().start(slow(1)), InvalidCall, r"write start\(flow, \.\.\.\)"),  # type: ignore[call-overload]
    ("an argument of the wrong type", lambda: typed("many", []), ParameterTypeError, "parameter 'count'"),  # type: ignore[arg-type]
    ("a wrong item", lambda: typed(1, ["a", 2]), ParameterTypeError, r"parameter 'names': names\.1: "),  # type: ignore[list-item]
    ("a missing argument", lambda: increase(), ParameterBindError, "'number'"),  # type: ignore[call-arg]
    ("an argument misspelt", lambda: increase(numbr=1), ParameterBindError, "'number'; there is no 'numbr'"),  # type: ignore[call-arg]
    ("an argument too many", lambda: increase(1, 2), ParameterBindError, "too many"),  # type: ignore[call-arg]
    ("nothing to map over", lambda: add.map(1, "text"), MappingMissingIterable, "nothing to map over"),
    ("a logger outside of a run", get_run_logger, MissingContextError, "outside of a flow or task run"),
    ("a store that does not exist", lambda: ResultStore("nosuch://x").write(1), ConfigurationError, "nosuch://x"),
    ("a scalar result store", lambda: task(result_storage=5)(len)([1]), ConfigurationError, "result_storage=5"),
]


@pytest.mark.parametrize(("what", "program", "error", "answer"), MISTAKES, ids=[mistake[0] for mistake in MISTAKES])
def test_a_mistake_is_answered(what: str, program: Callable[[], Any], error: type[Exception], answer: str) -> None:
    def run() -> None:
        made = program()
        if callable(made):
            made(lambda: None)

    with pytest.raises(error, match=answer):
        run()


def test_maps_of_different_lengths_name_the_arguments() -> None:
    @flow
    def main() -> None:
        add.map([1, 2, 3], [1, 2])

    with pytest.raises(MappingLengthMismatch, match=r"left: 3, right: 2.*unmapped"):
        main()


def test_an_unmapped_argument_goes_to_every_run() -> None:
    @flow
    def main() -> list[int]:
        return add.map([1, 2], unmapped(10)).result()

    assert main() == [11, 12]


def test_blocking_for_a_coroutines_future_says_to_await_it() -> None:
    @task
    async def slow() -> int:
        await asyncio.sleep(0)
        return 1

    @flow
    async def main() -> int:
        return slow.submit().result()

    with pytest.raises(WouldBlock, match="await future"):
        asyncio.run(main())


def test_a_coroutine_that_nobody_awaited_is_awaited_when_it_is_returned() -> None:
    @task
    async def one() -> int:
        return 1

    @flow
    async def main() -> Any:
        return one()

    assert asyncio.run(main()) == 1


def test_a_failure_that_nobody_looked_at_is_named() -> None:
    @flow
    def main() -> int:
        increase.submit("text")  # type: ignore[arg-type]
        return 1

    with pytest.raises(UnhandledFailures, match="'increase-.*' \\(Failed\\).*TypeError"):
        main()


def test_a_skipped_run_names_what_it_was_skipped_for() -> None:
    @flow
    def main() -> Any:
        return increase.submit(increase.submit("text"))  # type: ignore[arg-type]

    with pytest.raises(UpstreamFailed, match="allow_failure") as raised:
        main()
    assert isinstance(raised.value.__cause__, TypeError)


def test_a_lock_in_an_argument_is_found() -> None:
    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def main() -> Any:
        return increase.submit({"deep": [1, threading.Lock()]}).result()  # type: ignore[arg-type]

    with pytest.raises(SerializationError, match=r"number\['deep'\]\[1\].*lock"):
        main()


def test_a_lambda_travels() -> None:
    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def main() -> int:
        return task(lambda number: number * 2).submit(4).result()

    assert main() == 8


def test_a_built_in_function_without_a_signature_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"task 'max': no signature found.*in a function of your own"):
        task(max)
