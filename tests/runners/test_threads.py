"""The thread pool: threads start when they are needed."""

from __future__ import annotations

import threading

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
