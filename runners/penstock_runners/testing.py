"""The conformance suite for task runners, which any runner can inherit.

::

    class TestMyRunner(RunnerTests):
        def make_runner(self) -> TaskRunner:
            return MyRunner(workers=2)

It is written against the contract in `penstock_runners.base` alone, and looks at files, process ids and counters
rather than at what the runner says of itself.
"""

from __future__ import annotations

from penstock_runners.probes import Reports, make_calls
from penstock_runners.testing_endings import EndingTests
from penstock_runners.testing_outcomes import OutcomeTests

__all__ = ("Reports", "RunnerTests", "make_calls")


class RunnerTests(OutcomeTests, EndingTests):
    """Inherit this, and say how to make a runner.

    Attributes:
        patience: Seconds after which something that has not happened counts as never happening.
    """
