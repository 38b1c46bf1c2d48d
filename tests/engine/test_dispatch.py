"""Between ready runs and a runner: room, batches, and what a cancellation leaves of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self

import pytest
from recording import Tally

from penstock import Engine, flow, quote, task, wait
from penstock.cache_policies import INPUTS
from penstock.errors import CancelledRun, CrashedRun
from penstock.futures import FutureList
from penstock.ports import Call, Outcome, Report
from penstock.results import ResultStore
from penstock.runners import ThreadPoolTaskRunner
from penstock_runners.base import TaskRunner


class Courier(TaskRunner):
    """A runner with batches, whose trips are made when the test says so.

    Attributes:
        trips: Submissions that have not been made, each with its report.
        sizes: How many calls each submission had.
    """

    batches: ClassVar[bool] = True
    capacity = 2

    def __init__(self) -> None:
        self.trips: list[tuple[list[Call], Report]] = []
        self.sizes: list[int] = []
        self.cancelled: list[Call] = []
        self.changed = threading.Condition()

    def duplicate(self) -> Self:
        return type(self)()

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        with self.changed:
            self.sizes.append(len(calls))
            self.trips.append((list(calls), report))
            self.changed.notify_all()

    def cancel(self, call: Call) -> bool:
        self.cancelled.append(call)
        return True

    def wait_for_trips(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.trips) >= count, 10), self.sizes

    def deliver(self, execute: Callable[[Call], Outcome] | None = None) -> None:
        """Make the first trip."""
        self.wait_for_trips(1)
        calls, report = self.trips.pop(0)
        for call in calls:
            report(call, (execute or run_call)(call))

    def deliver_all(self) -> None:
        while self.trips:
            self.deliver()


def run_call(call: Call, seconds: float = 0.001) -> Outcome:
    work = call.work
    value = call.context.run(work.function, *call.args, **work.constants, **call.kwargs)
    return Outcome(value=value, started=1.0, ended=1.0 + seconds)


@pytest.fixture
def courier() -> Courier:
    return Courier()


@pytest.fixture
def engine(courier: Courier) -> Iterator[Engine]:
    with Engine(courier, grace=2.0) as engine:
        yield engine


@task
def double(number: int) -> int:
    return 2 * number


def test_a_single_submission_goes_at_once(engine: Engine, courier: Courier) -> None:
    future = double.submit(4)
    assert courier.sizes == [1]
    courier.deliver()
    assert future.result() == 8


def test_no_more_than_two_trips_for_each_worker_are_out(engine: Engine, courier: Courier) -> None:
    futures = double.map(range(1000))
    assert len(courier.trips) == 4
    most = 4
    while courier.trips:
        courier.deliver()
        most = max(most, len(courier.trips))
    assert most == 4
    assert futures.result() == [2 * number for number in range(1000)]
    assert sum(courier.sizes) == 1000
    assert max(courier.sizes) > 10


def test_runs_that_waited_for_others_take_room_and_travel_together_too(engine: Engine, courier: Courier) -> None:
    first = double.submit(0)
    futures = [double.submit(number, wait_for=[first]) for number in range(1000)]
    assert courier.sizes == [1]
    courier.deliver()
    most = len(courier.trips)
    while courier.trips:
        courier.deliver()
        most = max(most, len(courier.trips))
    assert most == 4
    assert [future.result() for future in futures] == [2 * number for number in range(1000)]
    assert sum(courier.sizes) == 1001
    assert max(courier.sizes) > 10


@pytest.mark.parametrize(("items", "size", "sizes"), [(7, 3, [3, 3, 1]), (3, 1, [1, 1, 1]), (2, 5, [2])])
def test_a_fixed_size_is_exact(engine: Engine, courier: Courier, items: int, size: int, sizes: list[int]) -> None:
    futures = double.map(range(items), batch_size=size)
    courier.deliver_all()
    assert futures.result() == [2 * number for number in range(items)]
    assert courier.sizes == sizes


def test_only_the_failed_ones_are_sent_again(engine: Engine, courier: Courier) -> None:
    tally = Tally()

    @task(retries=1, batch_size=4)
    def picky(number: int) -> int:
        tally.add(str(number))
        if number == 2 and tally.counts["2"] == 1:
            raise ValueError("once")
        return number

    def execute(call: Call) -> Outcome:
        try:
            return run_call(call)
        except ValueError as error:
            return Outcome(error=error, started=1.0, ended=2.0)

    futures = picky.map(range(4))
    courier.deliver(execute)
    courier.deliver(execute)
    assert futures.result() == [0, 1, 2, 3]
    assert courier.sizes == [4, 1]
    assert tally.counts == {"0": 1, "1": 1, "2": 2, "3": 1}


def test_a_call_that_is_lost_without_hope_is_not_sent_again(engine: Engine, courier: Courier) -> None:
    future = double.submit(1)
    lost = CrashedRun("nobody is left to send it to", "scheduler_lost", entered=False, hopeless=True)
    courier.deliver(lambda call: Outcome(crash=lost))
    future.wait(10)
    assert future.state.is_crashed()
    assert courier.sizes == [1]


def test_a_lost_call_travels_alone_the_next_time(engine: Engine, courier: Courier) -> None:
    survivor = double.with_options(crash_retries=1, batch_size=3)
    futures = survivor.map(range(3))
    courier.deliver(lambda call: Outcome(crash=CrashedRun("its worker died", "worker_lost")))
    courier.wait_for_trips(3)
    courier.deliver_all()
    assert futures.result() == [0, 2, 4]
    assert courier.sizes == [3, 1, 1, 1]


def test_items_are_reported_as_they_come(engine: Engine, courier: Courier) -> None:
    futures = double.map(range(3), batch_size=3)
    (calls, report), *_ = courier.trips
    report(calls[1], run_call(calls[1]))
    assert [future.done for future in futures] == [False, True, False]
    courier.deliver(lambda call: run_call(call))
    assert futures.result() == [0, 2, 4]


def test_a_late_or_second_outcome_meets_nobody(engine: Engine, courier: Courier) -> None:
    future = double.submit(1)
    (calls, report), *_ = courier.trips
    courier.deliver()
    report(calls[0], Outcome(value="late", started=1.0, ended=2.0))
    assert future.result() == 2


def test_what_waits_for_room_can_be_cancelled(engine: Engine, courier: Courier) -> None:
    futures = double.map(range(100), batch_size=1)
    assert len(courier.trips) == 4
    for future in futures[10:]:
        future.cancel()
    courier.deliver_all()
    assert sum(courier.sizes) == 10
    assert futures[9].result() == 18
    with pytest.raises(CancelledRun):
        futures[10].result()


def test_thousands_that_wait_for_room_are_cancelled_one_after_the_other() -> None:
    entered, wanted = threading.Event(), threading.Event()

    @task
    def hold() -> None:
        entered.set()
        assert wanted.wait(30)

    @flow
    def main() -> Any:
        first = double.submit(0)
        first.wait()
        holding = [hold.submit(), hold.submit()]
        futures = FutureList(double.submit(number, wait_for=[first]) for number in range(3000))
        assert entered.wait(30)
        futures.cancel()
        wanted.set()
        wait([*holding, *futures])
        return quote({future.state.name for future in futures})

    with Engine(ThreadPoolTaskRunner(max_workers=1), grace=2.0):
        assert main() == {"Cancelled"}


def test_what_is_out_is_cancelled_at_the_runner(engine: Engine, courier: Courier) -> None:
    future = double.submit(1)
    future.cancel()
    assert [call.run.id for call in courier.cancelled] == [future.id]
    courier.deliver_all()
    assert future.state.name == "Cancelled"


def test_a_whole_batch_of_hits_makes_room_for_others(courier: Courier, tmp_path: Any) -> None:
    cached = double.with_options(cache_policy=INPUTS, batch_size=2)
    with Engine(courier, results=ResultStore(tmp_path / "store")):
        first = cached.map(range(20))
        courier.deliver_all()
        assert first.result() == [2 * number for number in range(20)]
        sent = sum(courier.sizes)
        assert sent == 20
        again = cached.map(range(22))
        courier.deliver_all()
        assert again.result() == [2 * number for number in range(22)]
        assert sum(courier.sizes) == 22


def test_many_threads_submit_at_once(engine: Engine, courier: Courier) -> None:
    @flow
    def run(start: int) -> Any:
        return quote(list(double.map(range(start, start + 50))))

    done = threading.Event()

    def deliver() -> None:
        while not done.is_set() or courier.trips:
            with courier.changed:
                courier.changed.wait(0.01)
            courier.deliver_all()

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(run, range(0, 400, 50)))
    finally:
        done.set()
        thread.join()
    assert [future.result() for futures in found for future in futures] == [2 * number for number in range(400)]
    assert sum(courier.sizes) == 400
