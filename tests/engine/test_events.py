"""Transitions on their way to sinks, which never change a run."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from worlds import World

from penstock import Engine, flow, task
from penstock.events import EventBuffer
from penstock.ports import Event
from penstock.testing import penstock_test_harness, wait_until

WATCHDOG = 5.0


class Recorder:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, run: Any) -> list[tuple[int, str]]:
        return [(event.sequence, event.state.name) for event in self.events if event.run is run]


class Broken:
    """A sink that always fails."""

    def emit(self, event: Event) -> None:
        raise OSError("the disk is gone")


class Blocked:
    """A sink that takes its first event and does not come back until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()

    def emit(self, event: Event) -> None:
        self.entered.set()
        self.gate.wait(WATCHDOG)


@task
def double(value: int) -> int:
    return 2 * value


def test_every_transition_is_one_event_in_order(world: World) -> None:
    recorder = Recorder()
    runs: list[Any] = []

    @task(retries=1)
    def once_wrong() -> int:
        if len(runs) < 2:
            runs.append(None)
            raise ValueError
        return 5

    async def body() -> Any:
        runs.append(None)
        future = once_wrong.submit()
        value = await world.get(future)
        runs.append(future.run)
        return value

    with penstock_test_harness(sinks=[recorder]):
        assert world.run(flow(world.function(body))) == 5
    assert recorder.of(runs[-1]) == [(1, "Pending"), (2, "Running"), (3, "Retrying"), (4, "Completed")]
    per_run: dict[int, list[int]] = {}
    for event in recorder.events:
        per_run.setdefault(event.run.key, []).append(event.sequence)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in per_run.values())
    flow_run = runs[-1].flow_run
    assert [name for _, name in recorder.of(flow_run)] == ["Pending", "Running", "Completed"]


def test_leaving_the_engine_delivers_what_is_buffered() -> None:
    recorder = Recorder()
    with penstock_test_harness(sinks=[recorder]):
        assert flow(lambda: double.map(range(1000)).result())()[-1] == 1998
    assert len(recorder.events) == 3 * 1001


def test_a_sink_that_fails_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with penstock_test_harness(sinks=[Broken(), recorder]):
        assert flow(lambda: double.submit(2).result())() == 4
    assert "the disk is gone" in caplog.text
    assert "the run is not affected" in caplog.text
    assert len(recorder.events) == 6, "the sink beside it got every event"


def test_a_sink_that_blocks_holds_up_no_run() -> None:
    blocked = Blocked()
    with penstock_test_harness(sinks=[blocked]):
        assert flow(lambda: double.map(range(100)).result())() == [2 * n for n in range(100)]
        assert blocked.entered.wait(WATCHDOG)
        assert not blocked.gate.is_set()

        async def on_a_loop() -> int:
            return await double.submit(4)

        assert asyncio.run(on_a_loop()) == 8
        blocked.gate.set()


def test_a_full_buffer_drops_the_oldest_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "penstock")
    blocked, recorder = Blocked(), Recorder()
    buffer = EventBuffer([blocked, recorder], capacity=10)
    events = [Event(None, number, None) for number in range(101)]
    buffer.put(events[0])
    assert blocked.entered.wait(WATCHDOG)
    for event in events[1:]:
        buffer.put(event)
    assert buffer.dropped == 90
    assert caplog.text.count("does not keep up") == 1
    blocked.gate.set()
    buffer.close(WATCHDOG)
    assert [event.sequence for event in recorder.events] == [0, *range(91, 101)]


def test_events_after_a_close_are_delivered_by_the_next() -> None:
    recorder = Recorder()
    buffer = EventBuffer([recorder])
    for number in range(3):
        buffer.put(Event(None, number, None))
        buffer.close(WATCHDOG)
    assert [event.sequence for event in recorder.events] == [0, 1, 2]


@pytest.mark.parametrize("round_", range(20))  # of two threads that deliver, either may be the last
def test_an_event_that_comes_while_the_buffer_is_closed_holds_nobody_up(round_: int) -> None:
    blocked = Blocked()
    buffer = EventBuffer([blocked])
    buffer.put(Event(None, 0, None))
    assert blocked.entered.wait(WATCHDOG)
    closing = threading.Thread(target=buffer.close, args=(4 * WATCHDOG,))
    closing.start()
    wait_until(lambda: buffer._closing, "the buffer to be closed")
    buffer.put(Event(None, 1, None))
    blocked.gate.set()
    closing.join(WATCHDOG)
    assert not closing.is_alive()


def test_without_sinks_nothing_is_buffered(engine: Engine) -> None:
    assert flow(lambda: double.submit(1).result())() == 2
    assert engine.events_dropped == 0
    assert not any(thread.name == "penstock-events" and thread.is_alive() for thread in _new_threads(engine))


def _new_threads(engine: Engine) -> list[threading.Thread]:
    thread = engine._events._thread
    return [thread] if thread is not None else []
