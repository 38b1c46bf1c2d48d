"""The runner of one flow run, opened at its beginning and closed at its end.

An async flow opens it on a thread, and does not wait for that thread when it is cancelled: a cluster may take many
seconds. So whoever comes second closes it, the flow that leaves or the thread that finds that nobody is there any more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from penstock.logging import engine_logger
from penstock.ports import Runner

if TYPE_CHECKING:
    from penstock.engine import Engine

__all__ = ("RunnerScope",)


class RunnerScope:
    """Opens and closes a runner once.

    Args:
        runner: A runner that is not open.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._opened: deque[Runner] = deque()  # whoever takes it out closes it
        self._has_been_left = False

    def enter(self, engine: Engine) -> None:
        """Open the runner; may block. If the scope has been left meanwhile, close it again."""
        engine.open_runner(self._runner)
        self._opened.append(self._runner)
        if self._has_been_left:
            try:
                self.leave(0.0)
            except Exception:
                engine_logger.exception("Closing %r failed, which a cancelled flow had begun to open.", self._runner)

    def leave(self, grace: float) -> None:
        """Close the runner if it is open, and see to it that it is closed if it is being opened; may block.

        Args:
            grace: Seconds that running functions get to end by themselves.
        """
        self._has_been_left = True
        try:
            runner = self._opened.pop()
        except IndexError:
            return
        runner.close(grace)
