"""The thread pool: threads start when they are needed."""

from __future__ import annotations

import threading

import pytest

from penstock import runtime
from penstock.ledger import mark_overdue
from penstock_runners import threads
from penstock_runners.probes import Reports, add, make_calls
from penstock_runners.threads import ThreadPoolTaskRunner


def test_a_call_never_waits_for_one_that_blocks_while_a_thread_may_start() -> None:
    """The pool's one thread has just begun what blocks, and must not count as idle any more."""
    for _ in range(300):
        released, reports = threading.Event(), Reports(10.0)
        (quick,) = make_calls(add, [(1,)])
        (blocks,) = make_calls(released.wait, [(5.0,)])
        (releases,) = make_calls(released.set, [()])
        with ThreadPoolTaskRunner(2) as runner:
            for call in (quick, blocks, releases):
                runner.submit([call], reports)
            assert reports.of([blocks])[0].value is True


def test_a_call_that_ends_while_it_is_given_up_does_not_stay_in_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released, ended, reports = threading.Event(), threading.Event(), threading.Event(), Reports(10.0)

    def blocks() -> None:
        begun.set()
        released.wait(5.0)

    def mark_late(*entry: object) -> None:
        released.set()
        assert ended.wait(5.0)  # the one thread there is has come to its next call
        mark_overdue(*entry)  # type: ignore[arg-type]

    monkeypatch.setattr(threads, "mark_overdue", mark_late)
    (call,), (next_call,) = make_calls(blocks, [()]), make_calls(ended.set, [()])
    with ThreadPoolTaskRunner(1) as runner:
        runner.submit([call, next_call], reports)
        assert begun.wait(5.0)
        runner.cancel(call)
        reports.of([call, next_call])
    assert runtime.overdue() == []
