"""The pool behind the process runner: who gets which shipment, what comes home, and who has died.

One thread, the *pump*, reads from all workers, starts them, watches deadlines and buries the dead; it never blocks on
a single worker. Submitting and cancelling threads hand work straight to an idle worker, under the pool's lock, without
a detour over the pump. Outcomes are reported outside the lock, so that a report may submit more.

To report an outcome takes several times as long as to read it: it is the next step of somebody's run. So the pump reads
what all workers have sent and gives those that are done their next shipment before it reports, and it reports a few at
a time before it looks again. Otherwise workers would stand idle behind one another's outcomes, and a map would take
the driver's time and the workers' time one after the other (benchmarks/processes.py).
"""

from __future__ import annotations

import math
import pickle
import selectors
import socket
import threading  # noqa: TID251 (the pump, and the lock that it shares with those who submit)
import time  # noqa: TID251 (leases and deadlines of real processes are real time)
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from penstock.errors import RunnerClosed, RunnerError, SerializationError
from penstock.ports import Call, LogLine, Outcome, Report
from penstock_runners import exits, verdicts, wire
from penstock_runners.bookings import Bookings, News, tell
from penstock_runners.failures import unpack_error
from penstock_runners.leases import is_stopped
from penstock_runners.members import Member, Shipment, stop
from penstock_runners.process_worker import DONE, FAILED, LINE, OUTCOME, READY, Setup
from penstock_runners.ring import ASLEEP, NAPPING
from penstock_runners.slot import LARGEST

__all__ = ("Pool",)

Packed: TypeAlias = bytes | tuple[Any, ...]
"""An outcome as it came: from the ring it is unpickled when it is reported, for thousands may wait for that."""

_LOOK = 0.5  # seconds between two looks at whether workers are stopped or gone without their socket closing
_STARTS = 3  # workers that may fail to start, one after the other, before that is taken for the rule
_LEAVE = 2.0  # seconds that an idle worker's exit handlers get
_NAP = 0.01  # seconds that outcomes wait for others of their batch while they come that often (benchmarks/cpu.py)
_FEW = 32  # outcomes that are reported between two looks at the workers, about a millisecond (benchmarks/processes.py)


class Pool:
    """Worker processes and the calls that they have.

    Args:
        capacity: How many workers at most.
        setup: What each worker is told first.
        lease: Seconds that a worker with a call in it may be stopped.
        on_line: Takes log lines of running calls at once, or None.
    """

    def __init__(
        self, capacity: int, setup: Setup, lease: float, on_line: Callable[[Call, LogLine], None] | None
    ) -> None:
        self._capacity = capacity
        self._setup = setup
        self._lease = lease
        self._on_line = on_line
        self._lock = threading.Condition(threading.RLock())
        self._members: list[Member] = []
        self._bookings = Bookings()
        self._closing = False
        self._stopping = False
        self._failed_starts = 0
        self._oom_kills = exits.oom_kills()
        self._next_look = 0.0
        self._sleeps_until = math.inf
        self._heard = self._nap_ends = -math.inf
        self._untold: deque[News] = deque()  # the pump's alone
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._pump = threading.Thread(target=self._run, name="penstock-processes", daemon=True)
        self._pump.start()

    # --- from any thread ---

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Pack the calls and hand them to a worker, or queue them."""
        if self._closing:
            raise RunnerClosed("ProcessPoolTaskRunner is closing and takes no more calls")
        try:
            work = wire.pack_work(calls[0].work)
        except SerializationError as refusal:
            for call in calls:
                report(call, Outcome(error=verdicts.copy(refusal)))
            return
        for start in range(0, len(calls), LARGEST):
            batch, kept, refused = wire.pack(calls[start : start + LARGEST], work.digest)
            for call, error in refused:
                report(call, Outcome(error=error))
            if kept:
                self._accept(Shipment(work, batch, kept, report, self._on_line is not None))

    def cancel(self, call: Call) -> bool:
        """Take a call back, or kill the worker that is in it; see `TaskRunner.cancel`."""
        with self._lock:
            place = self._bookings.find(call)
            if place is None:
                return False
            shipment, index = place
            member = shipment.member
            if member is not None and not member.revoke(index):
                if member.position() != index:
                    return False  # it has ended, and its outcome is on the way
                member.kill(verdicts.cancelled)
                return True
            news = self._bookings.take_out(shipment, [index], verdicts.cancelled)
        tell(news)
        return True

    def pids(self) -> list[int]:
        """The process ids of the workers."""
        with self._lock:
            return [member.process.pid for member in self._members]

    def close(self, grace: float) -> None:
        """Cancel what has not begun, wait for what has, kill what does not end, and let go of everything."""
        if threading.current_thread() is self._pump:
            raise RunnerError("a runner cannot be closed from a report: close it where it was opened")
        with self._lock:
            self._closing = True
            news = self._bookings.take_out_unentered(verdicts.cancelled)
        tell(news)
        with self._lock:
            self._lock.wait_for(self._is_quiet, grace)
            for member in self._members:
                if member.shipment is not None:
                    member.kill(verdicts.cancelled)
            self._lock.wait_for(self._is_quiet)
            self._stopping = True
        self._ring()
        self._pump.join()
        stop(self._members, _LEAVE)
        self._members.clear()
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def _accept(self, shipment: Shipment) -> None:
        with self._lock:
            self._bookings.add(shipment)
            news = self._bookings.take_out_unentered(verdicts.cancelled) if self._closing else []
            # The pump may be asleep for longer than the worker that was just given a call may take.
            wanted = self._dispatch() or self._next_due() < self._sleeps_until
        tell(news)
        if wanted:
            self._ring()

    def _is_quiet(self) -> bool:
        return all(member.shipment is None for member in self._members)

    def _ring(self) -> None:
        try:
            self._bell.send(b"!")
        except BlockingIOError:
            pass  # the pump has enough to wake up for

    # --- with the lock held ---

    def _dispatch(self) -> bool:
        """Give queued shipments to idle workers; whether the pump has something to do about the rest."""
        for member in self._members:
            if self._bookings.queued and member.idle and (shipment := self._bookings.next()) is not None:
                member.give(shipment)
        return self._bookings.queued > 0 or any(member.channel.pending for member in self._members)

    def _next_due(self) -> float:
        """When the pump has to look after a worker that is busy."""
        busy = [member.due for member in self._members if member.shipment is not None]
        return min(*busy, self._next_look) if busy else math.inf

    # --- the pump ---

    def _run(self) -> None:
        try:
            while not self._stopping or self._untold:
                self._turn()
        except BaseException as error:  # nobody else would notice, and every call would wait for ever
            self._collapse(error)
            raise

    def _turn(self) -> None:
        self._grow()
        speaking: set[Member] = set()
        for key, events in self._selector.select(self._pause()):
            if key.data is None:
                self._ear.recv(4096)
            elif events & selectors.EVENT_READ:
                speaking.add(key.data)
        for member in tuple(self._members):
            if member in speaking:
                self._receive(member)
            elif outcomes := member.outcomes():
                self._hear(member, outcomes)
        now = time.monotonic()
        with self._lock:
            overdue = [member for member in self._members if member.due <= now and member.overdue(now)]
            for member in overdue:
                member.kill(verdicts.timed_out)
        if now >= self._next_look:
            self._next_look = now + min(_LOOK, self._lease / 4)
            self._look(now)
        with self._lock:
            self._write()
        tell(self._untold.popleft() for _ in range(min(_FEW, len(self._untold))))

    def _pause(self) -> float | None:
        """Seconds until something has to be looked at although nothing has happened; None if nothing is going on."""
        if self._untold:
            return 0.0
        with self._lock:
            if not self._members and self._bookings.queued and not self._closing:
                return 0.0
            now = time.monotonic()
            how = NAPPING if now < self._nap_ends else ASLEEP
            if not all(member.slot.ring.sleep(how) for member in self._members):
                return 0.0
            self._sleeps_until = min(self._next_due(), self._nap_ends if how == NAPPING else math.inf)
            return None if self._sleeps_until == math.inf else max(0.0, self._sleeps_until - now)

    def _write(self) -> None:
        for member in self._members:
            member.channel.flush()
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if member.channel.pending else 0)
            if self._selector.get_key(member.channel.socket).events != events:
                self._selector.modify(member.channel.socket, events, member)

    def _receive(self, member: Member) -> None:
        with self._lock:
            messages, is_open = member.hear()
        self._hear(member, messages)
        if not is_open:
            self._bury(member)

    def _hear(self, member: Member, messages: list[Any]) -> None:
        before, self._heard = self._heard, time.monotonic()
        if self._heard - before < 2 * _NAP:
            self._nap_ends = self._heard + _NAP
        with self._lock:
            for kind, *content in messages:
                if kind == OUTCOME:
                    self._untold += self._come_home(member, *content)
                elif kind == LINE:
                    self._untold += self._line(member, *content)
                elif kind == DONE:
                    member.done()
                elif kind == READY:
                    member.ready = True
                    self._failed_starts = 0
                elif kind == FAILED:
                    member.failure = unpack_error(content[0])
            self._dispatch()
            self._lock.notify_all()

    def _come_home(self, member: Member, index: int, is_last: bool, content: Packed) -> list[News]:
        shipment = member.shipment
        if is_last:
            member.done()
        if shipment is None or index not in shipment.calls:
            return []
        return self._bookings.take_out(shipment, [index], partial(_unpack, content))

    def _line(self, member: Member, index: int, line: LogLine) -> list[News]:
        shipment, on_line = member.shipment, self._on_line
        if shipment is None or on_line is None or index not in shipment.calls:
            return []

        def pass_on(call: Call, _: Outcome) -> None:
            on_line(call, line)

        return [News(shipment, shipment.calls[index], pass_on, _nothing)]

    # --- births and deaths, on the pump ---

    def _grow(self) -> None:
        """Start workers for the shipments that nobody is there to take."""
        with self._lock:
            starting = sum(not member.ready for member in self._members)
            wanted = min(self._bookings.queued - starting, self._capacity - len(self._members))
            if self._closing or (self._failed_starts >= _STARTS and self._members):
                return
        for _ in range(wanted):
            try:
                member = Member(self._setup)
            except OSError as error:
                self._not_started(error, is_final=False)
                return
            with self._lock:
                self._members.append(member)
                self._selector.register(member.channel.socket, selectors.EVENT_READ, member)

    def _look(self, now: float) -> None:
        """Find workers that are stopped, and those that died while something else holds their socket open."""
        self._oom_kills = exits.oom_kills()
        for member in list(self._members):
            if member.has_exited():
                self._bury(member)
            elif member.shipment is None or not is_stopped(member.process.pid):
                member.stopped = None
            elif member.stopped is None:
                member.stopped = now
            elif now - member.stopped >= self._lease:
                member.kill(verdicts.frozen(self._lease))

    def _bury(self, member: Member) -> None:
        """Take leave of a worker: what it sent stands, the call that it was in is over, the others go to another."""
        with self._lock:
            left = member.last_words()
        self._hear(member, left)
        with self._lock:
            self._selector.unregister(member.channel.socket)
            self._members.remove(member)
            position = member.position()
        code = member.bury()
        oom = exits.oom_kills() > self._oom_kills
        with self._lock:
            self._untold += self._settle(member, position, code, oom)
            self._lock.notify_all()
        if not member.ready:
            self._not_started(member.failure or verdicts.never_ready(member, code), is_final=member.failure is not None)

    def _settle(self, member: Member, position: int, code: int, oom: bool) -> list[News]:
        shipment, member.shipment = member.shipment, None
        if shipment is None:
            return []

        def lost(shipment: Shipment, _: Call) -> Outcome:
            return Outcome(crash=exits.crash(shipment.task.name, member.name, code, oom), worker=member.name)

        entered = [index for index in shipment.calls if index <= position]
        news = self._bookings.take_out(shipment, entered, member.verdict or lost)
        rest = shipment.rest(position)
        if rest is not None:
            self._bookings.add_first(rest)
            if self._closing:
                news += self._bookings.take_out_unentered(verdicts.cancelled)
            self._dispatch()
        return news

    def _not_started(self, error: BaseException, is_final: bool) -> None:
        """Give up on the queue if there is no worker and starting one fails, for a known reason or again and again."""
        with self._lock:
            self._failed_starts += 1
            if self._members or (self._failed_starts < _STARTS and not is_final):
                return
            self._failed_starts = 0
            self._untold += self._bookings.take_out_queued(verdicts.never_started(error))

    def _collapse(self, error: BaseException) -> None:
        with self._lock:
            self._closing = True
            self._untold += self._bookings.take_out_all(verdicts.broken(error))
            for member in self._members:
                member.shipment = None
                member.kill()
            self._lock.notify_all()
        tell(self._untold)


def _unpack(content: Packed, shipment: Shipment, _: Call) -> Outcome:
    fields = pickle.loads(content) if isinstance(content, bytes) else content
    return wire.unpack_outcome(wire.PackedOutcome(*fields), shipment.task.name)


def _nothing(_shipment: Shipment, _call: Call) -> Outcome:
    return Outcome()
