"""The ring beside a queue: what was put comes out once, whole and in order, also across its end and between threads."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_runners.ring import ASLEEP, NAPPING, SIZE, Ring

messages = st.one_of(st.binary(max_size=200), st.integers(0, 120_000).map(bytes), st.none())
"""A message to put, or None to take what is there."""


@given(st.lists(messages, max_size=60))
@settings(max_examples=100, deadline=None)
def test_messages_come_out_whole_and_in_order(steps: list[bytes | None]) -> None:
    memory = memoryview(bytearray(SIZE))
    worker, driver = Ring(memory), Ring(memory)
    expected: deque[bytes] = deque()
    for message in [*steps, None]:
        if message is None:
            assert driver.take() == list(expected)
            expected.clear()
        elif worker.put(message):
            expected.append(message)
        else:
            assert sum(map(len, expected)) + len(message) + 4 * (len(expected) + 1) > SIZE - 24


@pytest.mark.parametrize(("how", "urgent"), [(ASLEEP, False), (ASLEEP, True), (NAPPING, True)])
def test_a_driver_that_sleeps_never_sleeps_over_a_message(how: int, urgent: bool) -> None:
    memory = memoryview(bytearray(SIZE))
    worker, driver = Ring(memory), Ring(memory)
    count, woken, heard = 20_000, threading.Semaphore(0), list[bytes]()

    def work() -> None:
        for number in range(count):
            while not worker.put(str(number).encode()):
                pass
            if worker.must_wake(urgent):
                woken.release()

    thread = threading.Thread(target=work)
    thread.start()
    while len(heard) < count:
        heard += driver.take()
        if len(heard) < count and driver.sleep(how):
            assert woken.acquire(timeout=30), f"slept over message {len(heard)}"
    thread.join()
    assert heard == [str(number).encode() for number in range(count)]


def test_a_driver_that_naps_is_woken_once_and_only_for_what_is_urgent() -> None:
    memory = memoryview(bytearray(SIZE))
    worker, driver = Ring(memory), Ring(memory)
    assert driver.sleep(NAPPING)
    assert worker.put(b"one of many")
    assert not worker.must_wake(urgent=False)
    assert worker.put(b"the last")
    assert [worker.must_wake(urgent=True) for _ in range(2)] == [True, False]


def test_a_full_ring_refuses_and_takes_again_when_it_was_read() -> None:
    memory = memoryview(bytearray(SIZE))
    worker, driver = Ring(memory), Ring(memory)
    assert worker.put(bytes(SIZE - 100))
    assert not worker.put(bytes(200))
    assert len(driver.take()) == 1
    assert worker.put(bytes(200))
    assert driver.take() == [bytes(200)]
