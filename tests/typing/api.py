"""What type checkers see; checked by tests/engine/test_typing.py, never executed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar, assert_type

from penstock import Flow, Task, as_completed, flow, task, unmapped, wait
from penstock.flows import AsyncFlow
from penstock.futures import DoneAndNotDone, Future, FutureList
from penstock.tasks import AsyncTask

T = TypeVar("T")


@task
def add(a: int, b: int) -> str: ...  # type: ignore[empty-body]


@task(retries=3, retry_delay_seconds=[1, 2], name="options keep the types")
def half(a: int) -> float: ...  # type: ignore[empty-body]


@task
async def fetch(url: str) -> bytes: ...  # type: ignore[empty-body]


@task
def whole(text: str) -> int: ...  # type: ignore[empty-body]


@task
def numbers(limit: int) -> Iterator[int]:
    yield limit


@task
async def numbers_async(limit: int) -> AsyncIterator[int]:
    yield limit


@flow
def plain(a: int, *, b: str = "") -> list[int]: ...  # type: ignore[empty-body]


@flow(retries=1)
async def coroutine(a: int) -> str: ...  # type: ignore[empty-body]


class Service:
    """Methods as tasks and flows."""

    @task
    def work(self, a: int) -> str: ...  # type: ignore[empty-body]

    @task
    async def work_async(self, a: int) -> str: ...  # type: ignore[empty-body]

    @flow
    def run(self, a: int) -> bytes: ...  # type: ignore[empty-body]


def definitions() -> None:
    assert_type(add.fn(1, 2), str)
    one_int: Task[..., float] = half
    is_async: AsyncTask[..., bytes] = fetch
    typed: Flow[..., list[int]] = plain
    also_async: AsyncFlow[..., str] = coroutine
    _ = one_int, is_async, typed, also_async


def calls() -> None:
    assert_type(add(1, 2), str)
    assert_type(add(a=1, b=2), str)
    assert_type(half(1), float)
    started: Coroutine[Any, Any, bytes] = fetch("x")
    started.close()
    assert_type(plain(1, b=""), list[int])
    assert_type(numbers(1), Iterator[int])
    assert_type(numbers_async(1), AsyncIterator[int])


async def awaited() -> None:
    assert_type(await fetch("x"), bytes)
    assert_type(await coroutine(1), str)
    assert_type(await half.submit(1), float)
    assert_type(await fetch.submit("x"), bytes)
    assert_type(await half.map([1, 2]), list[float])


def submits() -> None:
    assert_type(add.submit(1, 2), Future[str])
    assert_type(add.submit(a=1, b=2), Future[str])
    assert_type(half.submit(1).result(), float)
    assert_type(fetch.submit("x"), Future[bytes])
    assert_type(half.submit(1, wait_for=[add.submit(1, 2)]), Future[float])


def futures_as_arguments() -> None:
    number = whole.submit("3")
    assert_type(half.submit(number), Future[float])
    assert_type(add.submit(number, 2), Future[str])
    assert_type(add.submit(1, number), Future[str])
    assert_type(add.submit(number, number).result(), str)


def maps() -> None:
    assert_type(half.map([1, 2]), FutureList[float])
    assert_type(half.map(range(3)).result(), list[float])
    assert_type(add.map([1, 2], unmapped(3)), FutureList[str])
    assert_type(add.map([1, 2], 3), FutureList[str])
    assert_type(half.map(whole.map(["1"])), FutureList[float])


def helpers() -> None:
    futures = half.map([1, 2])
    assert_type(wait(futures), DoneAndNotDone)
    for future in as_completed(futures):
        assert_type(future, Future[float])
    for value in half.map_iter([1, 2], window=3):
        assert_type(value, float)


def options() -> None:
    assert_type(half.with_options(retries=5)(1), float)
    assert_type(plain.with_options(name=None)(1), list[int])
    assert_type(half.fn(1), float)


def methods(service: Service) -> None:
    assert_type(service.work(1), str)
    assert_type(service.work.submit(1), Future[str])
    assert_type(service.work.map([1]), FutureList[str])
    assert_type(service.run(1), bytes)
    assert_type(service.run.with_options(name="x")(1), bytes)
    assert_type(Service.work(service, 1), str)


async def async_methods(service: Service) -> None:
    assert_type(await service.work_async(1), str)
    assert_type(await service.work_async.submit(1), str)


def wrong_arguments_are_errors() -> None:
    add(1, "two")  # type: ignore[arg-type]
    add(1)  # type: ignore[call-arg]
    plain("one")  # type: ignore[arg-type]
    half.submit("one")  # type: ignore[call-overload]
    half.submit(add.submit(1, 2))  # type: ignore[arg-type]
    half.with_options(retries="many")  # type: ignore[arg-type]
