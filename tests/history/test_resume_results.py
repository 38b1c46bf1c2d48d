"""Which results a resumed flow run finds again, and which it makes anew."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from interrupted import Client, World, failed, make_pipeline

from penstock import Engine, flow, task
from penstock.cache_policies import NO_CACHE
from penstock.history import resume


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


@pytest.mark.parametrize(
    ("options", "executed"),
    [({"refresh_cache": True}, 1), ({"cache_expiration": timedelta(microseconds=1)}, 2)],
    ids=["refreshed in every run", "expired"],
)
def test_a_result_is_found_unless_it_has_expired(
    world: World, engine: Engine, options: dict[str, Any], executed: int
) -> None:
    @task(**options)
    def first() -> int:
        world.enter("first")
        return 1

    @task
    def last() -> None:
        world.enter("last")

    @flow(persist_result=True)
    def pipeline() -> int:
        value = first()
        last()
        return value

    world.broken = {"last"}
    interrupted = failed(pipeline, engine)
    world.broken = set()
    assert resume(interrupted) == 1
    assert world.entered.count("first") == executed


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
