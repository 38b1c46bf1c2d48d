"""One worker process and one shipment of calls, as the driver sees them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time  # noqa: TID251 (deadlines are measured on the worker's own clock, the system's)
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any, TypeAlias

from penstock.ports import Call, Outcome, Report
from penstock_runners.channel import NonBlockingChannel
from penstock_runners.process_worker import OUTCOME, Order, Setup, open_message
from penstock_runners.slot import Slot, new_file
from penstock_runners.wire import Batch, PackedWork, Shelf

__all__ = ("Member", "Shipment", "Verdict", "stop")

# A function that is async stops itself on time; it is killed only if it does not get that far.
_ASYNC_GRACE = 0.5


class Shipment:
    """Calls of one submission that go to one worker together.

    Args:
        work: Their work, packed.
        batch: The calls, packed.
        calls: The calls, in the order of the batch's items.
        report: Where their outcomes go.
        live: Whether their log lines are wanted at once.
    """

    def __init__(self, work: PackedWork, batch: Batch, calls: list[Call], report: Report, live: bool) -> None:
        self.work = work
        self.batch = batch
        self.report = report
        self.live = live
        self.task = calls[0].work
        self.calls: dict[int, Call] = dict(enumerate(calls))
        """Those without an outcome yet, by the index of their item."""
        self.member: Member | None = None

    def rest(self, after: int) -> Shipment | None:
        """Those that still have no outcome and come after that index, as a shipment of their own."""
        indexes = [index for index in self.calls if index > after]
        if not indexes:
            return None
        batch = self.batch._replace(items=[self.batch.items[index] for index in indexes])
        return Shipment(self.work, batch, [self.calls.pop(index) for index in indexes], self.report, self.live)


Verdict: TypeAlias = Callable[[Shipment, Call], Outcome]
"""Makes the outcome of a call that no worker will make one for."""


class Member:
    """A worker process of the pool.

    Attributes:
        ready: Whether its initializer has run.
        shipment: What it is working on.
        verdict: What to report for the call that it was running, if it was the driver that killed it.
        failure: What its initializer raised.
        stopped: Since when it has been stopped by a signal, on the monotonic clock.
        due: When its deadline wants to be looked at.
    """

    def __init__(self, setup: Setup) -> None:
        ours, theirs = socket.socketpair()
        slot = new_file()
        self.slot = Slot(os.dup(slot))
        try:
            self.process = _start(theirs.fileno(), slot)
        except BaseException:
            ours.close()
            self.slot.close()
            raise
        finally:
            theirs.close()
            os.close(slot)
        self.channel = NonBlockingChannel(ours)
        self.name = f"pid {self.process.pid} on {socket.gethostname()}"
        self.ready = False
        self.shipment: Shipment | None = None
        self.verdict: Verdict | None = None
        self.failure: BaseException | None = None
        self.stopped: float | None = None
        self.due = float("inf")
        self._number = 0
        self._holds = Shelf()
        self.channel.send(setup)

    @property
    def idle(self) -> bool:
        """Whether it waits for work."""
        return self.ready and self.shipment is None and self.verdict is None

    def give(self, shipment: Shipment) -> None:
        """Send it a shipment; the function only if it does not hold it yet."""
        work = shipment.work
        if self._holds.take(work.digest) is None:
            self._holds.put(work.digest, True)
        else:
            work = work._replace(pickled=b"")
        self._number += 1
        self.slot.clear()
        self.shipment = shipment
        shipment.member = self
        self.channel.send(Order(self._number, work, shipment.batch, shipment.live))
        timeout = shipment.task.timeout
        self.due = float("inf") if timeout is None else time.monotonic() + timeout

    def hear(self) -> tuple[list[Any], bool]:
        """Read what it has said: the messages, oldest first, and whether its end of the socket is still open.

        The socket is read first. What the worker put into the ring before it turned to the socket is there by then.
        """
        messages, is_open = self.channel.receive()
        return [*self.outcomes(), *messages], is_open

    def last_words(self) -> list[Any]:
        """Read everything that it has left, now that it is gone."""
        messages = self.channel.drain()
        return [*self.outcomes(), *messages]

    def outcomes(self) -> list[Any]:
        """Take what it has put into the ring, as the messages that they are over the socket."""
        return [(OUTCOME, *open_message(message)) for message in self.slot.ring.take()]

    def done(self) -> None:
        """Note that it has gone through its shipment."""
        self.shipment = None
        self.due = float("inf")

    def position(self) -> int:
        """The index of the call that it entered last; -1 if it has entered none of its shipment."""
        return self.slot.position(self._number)

    def revoke(self, index: int) -> bool:
        """Keep it from entering a call of its shipment; False if it may have entered it already."""
        return self.slot.revoke(self._number, index)

    def overdue(self, now: float) -> bool:
        """Whether the call that it is in has exceeded its timeout; if not, `due` says when to look again."""
        shipment = self.shipment
        if shipment is None or shipment.task.timeout is None:
            return False
        limit = shipment.task.timeout + (_ASYNC_GRACE if shipment.task.is_async else 0.0)
        entered = self.slot.since() if self.position() in shipment.calls else now
        self.due = entered + limit
        return now >= self.due

    def kill(self, verdict: Verdict | None = None) -> None:
        """End it and whatever it started; the driver's receiving thread then finds it dead."""
        self.verdict = self.verdict or verdict
        # The process is the leader of its group, and stays in it until `bury` reaps it: this can meet no stranger.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def has_exited(self) -> bool:
        """Whether the process has ended; it is not reaped."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def bury(self) -> int:
        """Reap it, with whatever it left running; gives its return code."""
        self.kill()
        code = self.process.wait()
        self.channel.socket.close()
        self.slot.close()
        return code


_BOOT = (
    "import sys; connection, slot, parent, *sys.path = sys.argv[1:]; "
    "from penstock_runners.process_worker import main; main(int(connection), int(slot), int(parent))"
)


def _start(connection: int, slot: int) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter that knows our path and nothing else.

    The user's main module is not run again in it: what is defined there travels by value, and no program needs the
    ``if __name__ == "__main__"`` guard. A group of its own keeps Ctrl-C for us, and lets us end it with its children.
    """
    warnings = [f"-W{option}" for option in sys.warnoptions]
    path = [os.path.abspath(entry) for entry in sys.path]
    arguments = [str(connection), str(slot), str(os.getpid()), *path]
    return subprocess.Popen(
        [sys.executable, *warnings, "-c", _BOOT, *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=(connection, slot),
        process_group=0,
    )


def stop(members: list[Member], seconds: float) -> None:
    """Let idle workers leave by themselves, with their exit handlers; those that do not within the time are killed."""
    deadline = time.monotonic() + seconds
    for member in members:
        member.channel.send(None)
    for member in members:
        # The worker's end of the socket closes when the process is gone and not before.
        wait([member.channel.socket], max(0.0, deadline - time.monotonic()))
        member.bury()
