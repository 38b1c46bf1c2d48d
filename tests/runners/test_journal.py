"""What a worker writes down on the driver's machine, and the fence that keeps it from going on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_runners import journal as journal_module
from penstock_runners.journal import Entry, Journal, Page


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.close()
    assert not Path(journal.path).exists()


def test_what_nobody_has_entered_has_not_begun(journal: Journal) -> None:
    Page(journal.path, 7)
    assert not journal.has_begun(7)
    assert journal.fence(7) == Entry(0, 0, [])


def test_the_call_after_the_last_outcome_counts_as_entered(journal: Journal) -> None:
    page = Page(journal.path, 7)
    for index in range(3):
        assert page.enter(index)
        assert journal.has_begun(7)
        page.add(index, b"outcome %d" % index)
    assert page.enter(3)
    page.close()
    assert journal.fence(7) == Entry(os.getpid(), 4, [b"outcome 0", b"outcome 1", b"outcome 2"])
    assert not journal.has_begun(8)


def test_calls_that_were_left_out_or_left_nothing_to_keep_are_counted(journal: Journal) -> None:
    page = Page(journal.path, 0)
    assert page.enter(2)  # the first two were withdrawn
    assert page.enter(3)  # the third left a value that lies elsewhere
    page.add(3, b"outcome")
    assert page.enter(6)  # two more were withdrawn
    page.close()
    assert journal.fence(0) == Entry(os.getpid(), 7, [b"outcome"])


def test_a_fence_keeps_a_worker_from_going_on_with_that_submission_alone(journal: Journal) -> None:
    fenced, other = Page(journal.path, 1), Page(journal.path, 2)
    assert fenced.enter(0)
    fenced.add(0, b"outcome")
    entry = journal.fence(1)
    assert not fenced.enter(1)
    assert other.enter(0)
    assert entry.entered == 2
    late = Page(journal.path, 3)
    assert journal.fence(3).entered == 0
    assert not late.enter(0)
    for page in (fenced, other, late):
        page.close()


@pytest.fixture
def _hurried_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_hurried_threads")
def test_driver_and_worker_never_both_take_a_call(journal: Journal) -> None:
    """The worker enters calls as fast as it can while the driver puts up fences: nobody enters what can go again."""
    numbers = range(100)
    entered: dict[int, int] = dict.fromkeys(numbers, 0)

    def work() -> None:
        for number in numbers:
            page = Page(journal.path, number)
            while page.enter(entered[number]):
                entered[number] += 1
                page.add(entered[number] - 1, b"outcome")
            page.close()

    worker = threading.Thread(target=work)
    worker.start()
    found = []
    for number in numbers:
        while entered[number] < 5:
            pass
        found.append(journal.fence(number).entered)
    worker.join()
    assert all(entered[number] <= found[number] for number in numbers)


def test_a_line_that_a_later_submission_took_says_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_LINES", 4)
    early, late = Page(journal.path, 1), Page(journal.path, 5)
    assert early.enter(0)
    assert late.enter(0)
    assert journal.fence(1).entered > 1_000_000
    assert journal.fence(5).entered == 1


_WORKER = """
import sys
from penstock_runners.journal import Page
page, index = Page(sys.argv[1], 0), 0
while page.enter(index):
    page.add(index, b"%d" % index * 1000)
    index += 1
    print(index, flush=True)
"""


def test_a_killed_process_leaves_what_it_wrote(journal: Journal) -> None:
    with subprocess.Popen([sys.executable, "-c", _WORKER, journal.path], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        while int(worker.stdout.readline()) < 50:
            pass
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    entry = journal.fence(0)
    assert entry.worker == worker.pid
    assert len(entry.outcomes) >= 50
    assert [int(outcome[:2]) for outcome in entry.outcomes[10:50]] == list(range(10, 50))
    assert entry.entered == len(entry.outcomes) + 1
    journal.forget(0)
    assert journal.fence(0).outcomes == []
