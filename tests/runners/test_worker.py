"""What runs on the other side, called here without a runner around it."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import SerializationError, TimedOut
from penstock.ports import Outcome
from penstock_runners import probes, wire, worker
from penstock_runners.failures import pack_error, unpack_error
from penstock_runners.probes import make_calls
from penstock_runners.wire import PackedOutcome, Shelf

PLAIN = worker.Site()


def travel(
    function: Callable[..., Any], arguments: list[tuple[Any, ...]], site: worker.Site = PLAIN, **options: Any
) -> list[Outcome]:
    """Send calls through the wire to this very process, and their outcomes back."""
    calls = make_calls(function, arguments, **options)
    work = wire.pack_work(calls[0].work)
    batch, kept, refused = wire.pack(calls, work.digest)
    assert (kept, refused) == (calls, [])
    home: dict[int, PackedOutcome] = {}
    batch = pickle.loads(pickle.dumps(batch, 5))
    worker.run_batch(batch, work, lambda index, packed: home.update({index: pickle.loads(pickle.dumps(packed))}), site)
    return [wire.unpack_outcome(home[index], "task") if index in home else Outcome() for index in range(len(calls))]


def thread_and_loop(_: int) -> str:
    return threading.current_thread().name


class TestRunning:
    def test_values_and_times_come_back(self) -> None:
        outcomes = travel(probes.add, [(1, 2), (3, 4)])
        assert [outcome.value for outcome in outcomes] == [3, 7]
        assert all(0 < outcome.started <= outcome.ended for outcome in outcomes)

    def test_synchronous_functions_run_in_the_thread_that_asks(self) -> None:
        assert travel(thread_and_loop, [(1,)])[0].value == threading.current_thread().name

    def test_async_functions_share_one_loop(self) -> None:
        first, second = travel(probes.loop_id, [(1,), (2,)], is_async=True)
        assert first.value == second.value

    def test_async_generators_give_lists(self) -> None:
        async def count(limit: int) -> Any:
            for number in range(limit):
                yield number

        assert travel(count, [(3,)], is_async=True, is_generator=True)[0].value == [0, 1, 2]

    def test_calls_may_be_left_out(self) -> None:
        outcomes = travel(probes.add, [(1,), (2,), (3,)], worker.Site(entering=lambda index: index != 1))
        assert [outcome.value for outcome in outcomes] == [1, None, 3]

    def test_a_call_starts_with_nothing_but_what_was_sent(self) -> None:
        private: ContextVar[str] = ContextVar("private", default="clean")
        private.set("dirty")
        (call,) = make_calls(private.get, [()])
        work = wire.pack_work(make_calls(lambda: private.get(), [()])[0].work)
        batch, *_ = wire.pack([call], work.digest)
        home: list[PackedOutcome] = []
        private.set("changed since")
        worker.run_batch(batch, work, lambda index, packed: home.append(packed))
        # The function refers to the variable, so its value at submission came along.
        assert wire.unpack_outcome(home[0], "task").value == "dirty"
        assert private.get() == "changed since"


class TestTimeouts:
    def test_the_function_is_left_behind_and_counted_until_it_ends(self, tmp_path: Path) -> None:
        release = tmp_path / "release"
        outcome = travel(probes.hold, [(tmp_path / "entries", release)], timeout=0.1)[0]
        assert isinstance(outcome.error, TimedOut)
        assert not worker.settled(timeout=0.01)
        release.touch()
        assert worker.settled(timeout=30)

    def test_an_async_function_is_cancelled(self) -> None:
        async def sleep() -> None:
            import asyncio

            await asyncio.sleep(600)

        assert isinstance(travel(sleep, [()], is_async=True, timeout=0.1)[0].error, TimedOut)
        assert worker.settled(timeout=30)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Coded(Exception):
    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")


class TestErrors:
    def home(self, error: BaseException) -> BaseException:
        try:
            raise error
        except BaseException as raised:
            return unpack_error(pickle.loads(pickle.dumps(pack_error(raised, "pid 1 on host"))))

    def test_the_traceback_starts_at_the_users_frame(self) -> None:
        error = travel(probes.raise_value_error, [("x",)])[0].error
        assert error is not None
        (note,) = error.__notes__
        assert note.startswith("Traceback on pid ")
        assert "worker.py" not in note
        assert "raise ValueError(text)" in note

    def test_notes_and_attributes_stay(self) -> None:
        error = ValueError("x")
        error.add_note("mine")
        error.code = 7  # type: ignore[attr-defined]
        home = self.home(error)
        assert (home.__notes__[0], home.code) == ("mine", 7)  # type: ignore[attr-defined]

    def test_attributes_that_cannot_travel_stay_behind_alone(self) -> None:
        error = probes.Locked("x")
        error.code = 7  # type: ignore[attr-defined]
        home = self.home(error)
        assert isinstance(home, probes.Locked)
        assert home.__dict__.keys() == {"code", "__notes__"}

    def test_the_chain_comes_along(self) -> None:
        error = travel(probes.raise_from_cause, [()])[0].error
        assert isinstance(error, RuntimeError)
        assert isinstance(error.__cause__, KeyError)
        assert error.__suppress_context__
        assert "the cause" in "".join(traceback.format_exception(error))

    def test_a_chain_that_is_a_ring_ends(self) -> None:
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        home = self.home(first)
        assert str(home.__cause__) == "second"
        assert home.__cause__ is not None
        assert home.__cause__.__cause__ is None

    def test_groups_stay_groups(self) -> None:
        home = self.home(ExceptionGroup("several", [ValueError("a"), probes.TwoArguments("b", "c")]))
        assert isinstance(home, ExceptionGroup)
        assert [type(error) for error in home.exceptions] == [ValueError, probes.TwoArguments]

    def test_what_cannot_travel_at_all_is_told_as_text(self) -> None:
        home = self.home(probes.Unrevivable("the one and only"))
        assert isinstance(home, SerializationError)
        assert "penstock_runners.probes.Unrevivable" in str(home)
        assert "not like this" in str(home)

    def test_a_broken_str_is_no_obstacle(self) -> None:
        home = self.home(Mute("never seen"))
        assert isinstance(home, Mute)
        assert home.args == ("never seen",)

    def test_a_text_made_by_init_is_not_made_twice(self) -> None:
        assert str(self.home(Coded(7))) == "code 7"


class TestTheWire:
    def test_a_work_is_pickled_once(self, tmp_path: Path) -> None:
        counted = probes.Counted(tmp_path / "pickles", b"")
        (call,) = make_calls(probes.length, [(1,)], constants={"counted": counted})
        assert wire.pack_work(call.work) is wire.pack_work(call.work)
        assert probes.entries(tmp_path / "pickles") == ["pickled"]

    def test_equal_works_have_one_digest(self) -> None:
        digests = {
            wire.pack_work(make_calls(probes.add, [()], constants={"right": 1})[0].work).digest for _ in range(2)
        }
        other = wire.pack_work(make_calls(probes.add, [()], constants={"right": 2})[0].work).digest
        assert len(digests) == 1
        assert other not in digests

    def test_a_shelf_gives_up_what_was_not_used_for_longest(self) -> None:
        shelf = Shelf()
        for number in range(Shelf.SIZE):
            shelf.put(str(number), number)
        shelf.take("0")
        shelf.put("new", "new")
        assert shelf.take("0") == 0
        assert shelf.take("1") is None
        assert len(shelf) == Shelf.SIZE

    def test_calls_with_the_same_context_share_it(self) -> None:
        token = probes.variable.set("x")
        try:
            calls = make_calls(probes.add, [(i,) for i in range(5)])
        finally:
            probes.variable.reset(token)
        calls[4].context.run(probes.variable.set, "y")
        batch, *_ = wire.pack(calls, "digest")
        assert [index for index, _ in batch.items] == [0, 0, 0, 0, 1]

    def test_a_variable_that_cannot_travel_keeps_the_others_from_nothing(self) -> None:
        call = make_calls(probes.set_variable, [("x",)])[0]
        call.context = copy_context()
        call.context.run(probes.variable.set, "crosses")
        call.context.run(unpicklable.set, threading.Lock())
        work = wire.pack_work(call.work)
        batch, _, refused = wire.pack([call], work.digest)
        assert refused == []
        home: list[PackedOutcome] = []
        worker.run_batch(batch, work, lambda index, packed: home.append(packed))
        assert wire.unpack_outcome(home[0], "task").value == "crosses"

    @pytest.mark.parametrize("name", ["a", "cfg"])
    def test_a_refusal_names_the_parameter(self, name: str) -> None:
        function = {"a": lambda a: a, "cfg": lambda cfg: cfg}[name]
        calls = make_calls(function, [(threading.Lock(),)])
        _, kept, [(call, refusal)] = wire.pack(calls, "digest")
        assert (kept, call) == ([], calls[0])
        assert f"argument `{name}`: cannot pickle '_thread.lock' object" in str(refusal)
        assert isinstance(refusal.__cause__, TypeError)


unpicklable: ContextVar[Any] = ContextVar("unpicklable")
