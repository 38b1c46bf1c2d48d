"""The batcher beside a trivial model: what was added, what went out, what came home."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.ports import Work
from penstock.schedule import Batcher, BatchSize


class Thing:
    """A run that is ready; numbered, so that a machine draws the same ones when it is replayed."""

    def __init__(self, work: Work, number: int = 0) -> None:
        self.work = work
        self.number = number


Batches = list[Sequence[Thing]]
by_number = attrgetter("number")


def make_work(name: str = "work") -> Work:
    return Work(print, name)


def add_all(batcher: Batcher[Thing], things: list[Thing], size: BatchSize) -> Batches:
    return [batch for thing in things for batch in batcher.add(thing, size)]


class Machine(RuleBasedStateMachine):
    """Works of several sizes, any order of arrivals, withdrawals and homecomings."""

    @initialize(workers=st.integers(1, 4))
    def start(self, workers: int) -> None:
        self.workers = workers
        self.made = 0
        self.batcher: Batcher[Thing] = Batcher(workers, 0.05)
        self.works: dict[Work, BatchSize] = {make_work(str(size)): size for size in ("auto", "auto", 1, 3)}
        self.out: deque[Sequence[Thing]] = deque()
        self.waiting: set[Thing] = set()
        self.sent: Counter[Thing] = Counter()

    def took(self, batches: Batches) -> None:
        for batch in batches:
            assert batch
            assert len({thing.work for thing in batch}) == 1
            size = self.works[batch[0].work]
            assert size == "auto" or len(batch) <= size
            self.sent.update(batch)
            self.waiting -= set(batch)
            self.out.append(batch)

    @rule(which=st.integers(0, 3), count=st.integers(1, 40))
    def add(self, which: int, count: int) -> None:
        work = list(self.works)[which]
        for _ in range(count):
            self.made += 1
            thing = Thing(work, self.made)
            self.waiting.add(thing)
            self.took(self.batcher.add(thing, self.works[work]))

    @precondition(lambda self: self.out)
    @rule(seconds=st.floats(0, 1), last=st.booleans())
    def come_home(self, seconds: float, last: bool) -> None:
        batch = self.out.pop() if last else self.out.popleft()
        for thing in batch:
            self.batcher.came_home(thing.work, seconds)
        self.took(self.batcher.batch_done())

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        thing = data.draw(st.sampled_from(sorted(self.waiting, key=by_number)))
        assert self.batcher.withdraw(thing)
        assert not self.batcher.withdraw(thing)
        self.waiting.discard(thing)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def withdraw_too_late(self, data: st.DataObject) -> None:
        assert not self.batcher.withdraw(data.draw(st.sampled_from(sorted(self.sent, key=by_number))))

    @invariant()
    def everything_is_somewhere_once(self) -> None:
        assert set(self.sent.values()) <= {1}
        assert not self.waiting & self.sent.keys()
        assert self.batcher.waiting == len(self.waiting)

    @invariant()
    def two_batches_for_each_worker_at_most(self) -> None:
        metered = [batch for batch in self.out if self.works[batch[0].work] in ("auto", 1)]
        assert len(metered) <= 2 * self.workers

    @invariant()
    def nobody_idles_while_something_waits(self) -> None:
        assert not self.waiting or len(self.out) >= 2 * self.workers

    def teardown(self) -> None:
        while self.out:
            self.out.popleft()
            self.took(self.batcher.batch_done())
        assert not self.waiting


TestBatcher = Machine.TestCase
TestBatcher.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_single_call_goes_at_once() -> None:
    thing = Thing(make_work())
    assert Batcher[Thing](2, 0.05).add(thing, "auto") == [[thing]]


@given(items=st.integers(1, 200), size=st.integers(1, 30), workers=st.integers(1, 4))
def test_a_fixed_size_is_exact_but_for_the_last(items: int, size: int, workers: int) -> None:
    batcher, work = Batcher[Thing](workers, 0.05), make_work()
    batcher.hold(work, size)
    out = add_all(batcher, [Thing(work) for _ in range(items)], size)
    out += batcher.release(work)
    done = 0
    while done < len(out):
        done += 1
        out += batcher.batch_done()
    whole, rest = divmod(items, size)
    assert [len(batch) for batch in out] == [size] * whole + [rest] * bool(rest)


@given(items=st.integers(1, 2000), seconds=st.floats(1e-6, 0.5), workers=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_an_automatic_batch_is_neither_long_nor_unfair(items: int, seconds: float, workers: int) -> None:
    batcher, work = Batcher[Thing](workers, 0.05), make_work()
    out = deque(add_all(batcher, [Thing(work) for _ in range(items)], "auto"))
    sizes = [len(batch) for batch in out]
    left = items - sum(sizes)
    while out:
        for thing in out.popleft():
            batcher.came_home(thing.work, seconds)
        for batch in batcher.batch_done():
            assert len(batch) == 1 or len(batch) * seconds <= 0.05 * 1.01
            assert len(batch) <= -(-left // (2 * workers)) or len(batch) * seconds <= 0.005 * 1.01
            sizes.append(len(batch))
            left -= len(batch)
            out.append(batch)
    assert left == 0
    assert all(later <= 4 * max(sizes[: place + 1]) for place, later in enumerate(sizes[1:]))


@given(items=st.integers(1, 20_000), workers=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_map_of_short_calls_does_not_end_in_ever_smaller_batches(items: int, workers: int) -> None:
    sizes = sizes_of_a_map(items, 1e-6, workers)
    largest = sizes.index(max(sizes))
    assert all(size >= min(200, sizes[largest]) for size in sizes[largest:-1])


def test_a_map_of_few_middling_calls_is_shared_out_call_by_call() -> None:
    assert set(sizes_of_a_map(8, 1e-3, 2)) == {1}


def sizes_of_a_map(items: int, seconds: float, workers: int) -> list[int]:
    """The batches of a map whose calls last so long, when they come home in order."""
    batcher, work = Batcher[Thing](workers, 0.05), make_work()
    out = deque(add_all(batcher, [Thing(work) for _ in range(items)], "auto"))
    sizes = [len(batch) for batch in out]
    while out:
        batcher.came_home(work, seconds, len(out.popleft()))
        batches = batcher.batch_done()
        out += batches
        sizes += [len(batch) for batch in batches]
    return sizes


def test_a_long_map_does_not_keep_a_short_one_waiting() -> None:
    batcher, long, short = Batcher[Thing](1, 0.05), make_work("long"), make_work("short")
    out = deque(add_all(batcher, [Thing(long) for _ in range(100)], 1))
    last = Thing(short)
    assert batcher.add(last, 1) == []
    for _ in range(2):
        out.popleft()
        out.extend(batcher.batch_done())
    assert [last] in out


@pytest.mark.parametrize("size", [1, "auto"])
def test_what_was_never_added_cannot_be_withdrawn(size: BatchSize) -> None:
    batcher = Batcher[Thing](1, 0.05)
    assert not batcher.withdraw(Thing(make_work()))
    thing = Thing(make_work())
    batcher.add(thing, size)
    assert not batcher.withdraw(thing)
