"""Flow runs that fail, so that they can be resumed: what their tasks touch, and what became of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from penstock import Engine, flow, task, wait
from penstock.history import RunRecord


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


class Client:
    """An argument of which no key can be made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
