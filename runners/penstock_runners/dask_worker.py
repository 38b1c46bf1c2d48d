"""What runs on Dask's side: a batch on a worker, the fence in the scheduler, and the guard in the nannies.

One Dask task is one batch. Its outcomes do not come home as the task's result, which a client would have to fetch
after the whole batch, and which Dask would compute again if the worker died before that. They are sent as messages on
a topic of the driver's, as they end: what had come home stands when the worker dies.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (a value is announced on the Dask worker's own loop)
import os
import pickle
import signal
import threading  # noqa: TID251 (a batch, its timer and a withdrawal run on threads of the worker's)
import time  # noqa: TID251 (how long an outcome has waited; a worker has the system's time and no other)
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from penstock.ports import LogLine
from penstock_runners import pickling
from penstock_runners.extras import distributed
from penstock_runners.journal import Page
from penstock_runners.leases import Lease
from penstock_runners.pickling import Pickled
from penstock_runners.references import INLINE_LIMIT, ClusterReference, provided, weight
from penstock_runners.wire import Batch, PackedOutcome, PackedWork
from penstock_runners.worker import Site, run_batch, settled

__all__ = ("FROZEN", "Parcel", "make_fence", "make_guard", "run", "withdraw")

# In the place of a submission's number: the message names a worker, by address and process, that was stopped for longer
# than the lease, and is killed.
FROZEN = -1

# Seconds that an outcome waits for others of its batch to share its message, which costs the driver 3 ms
# (benchmarks/cpu.py); a batch of automatic size is over sooner, and sends one.
_COMPANY = 0.4


@dataclass(slots=True)
class Parcel:
    """A batch for one Dask task; a class of ours and not a tuple, so that Dask does not look through it for futures.

    Attributes:
        session: The driver's session; also the topic for the outcomes.
        number: Which submission of the session.
        client: The driver's Dask client, which is to own what is kept here.
        batch: The calls.
        work: Their work, or None if it comes as the first of the task's values because it is large.
        inputs: The keys of the kept values among the arguments, in the order of the task's values.
        live: Whether log lines are to come home while their call runs.
        journal: Where to note which call is entered, on the driver's own machine.
    """

    session: str
    number: int
    client: str
    batch: Batch
    work: PackedWork | None
    inputs: tuple[str, ...]
    live: bool
    journal: str | None


def run(parcel: Parcel, *values: Any) -> None:
    """Run a batch; the one function that we submit.

    Args:
        parcel: The batch.
        values: What the batch needs of what lies on the cluster; Dask has brought it to this worker.
    """
    page = None if parcel.journal is None else Page(parcel.journal, parcel.number)
    outbox = _Outbox(distributed().get_worker(), parcel, page)
    work, inputs = (values[0], values[1:]) if parcel.work is None else (parcel.work, values)
    progress = _progress(parcel.session, parcel.number)
    site = Site(entering=partial(progress.entering, page), context=copy_context())
    with provided(dict(zip(parcel.inputs, inputs))):
        run_batch(parcel.batch, work, outbox.add, site, outbox.add_line if parcel.live else None)
    outbox.flush()
    if page is not None:
        page.close()
    # A function whose timeout has passed still runs and uses this slot.
    while not settled(60.0):
        pass


class _Outbox:
    """Sends outcomes home, several in a message if they end within a moment of each other."""

    def __init__(self, worker: Any, parcel: Parcel, page: Page | None) -> None:
        self._worker = worker
        self._parcel = parcel
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._sent = time.monotonic()
        single = len(parcel.batch.items) == 1
        # The one outcome of a single call is sent when the batch is over, a moment later.
        self._at_end = single and not parcel.live
        self._page = None if single else page

    def add(self, index: int, outcome: PackedOutcome) -> None:
        """Take an outcome; a value above the limit stays here."""
        if outcome.value is not None and (size := weight(outcome.value)) > INLINE_LIMIT:
            reference = ClusterReference(self._parcel.session, self._keep(outcome.value), size)
            outcome = outcome._replace(value=pickling.dumps(reference))
        message = pickle.dumps((index, tuple(outcome)), 5)
        if self._page is not None:
            self._page.add(index, message)
        self._put(message)

    def add_line(self, index: int, line: LogLine) -> None:
        """Take a log line of a call that still runs."""
        self._put(pickle.dumps((index, line), 5))

    def _put(self, message: bytes) -> None:
        with self._lock:
            self._waiting.append(message)
            self._bytes += len(message)
            first, full = len(self._waiting) == 1, self._bytes > INLINE_LIMIT
        if self._at_end:
            return
        if full or time.monotonic() - self._sent > _COMPANY:
            self.flush()
        elif first:
            loop = self._worker.loop
            loop.add_callback(loop.call_later, _COMPANY, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            messages, self._waiting, self._bytes = self._waiting, [], 0
            self._sent = time.monotonic()
        if messages:
            self._worker.log_event(self._parcel.session, (self._parcel.number, messages))

    def _keep(self, value: Pickled) -> str:
        """Keep a value here as pure data of the driver's client: dropped with its handle, never recomputed."""
        key = f"penstock-kept-{uuid.uuid4().hex}"
        loop = self._worker.loop.asyncio_loop
        asyncio.run_coroutine_threadsafe(self._announce(key, value), loop).result()
        return key

    async def _announce(self, key: str, value: Pickled) -> None:
        worker = self._worker
        worker.update_data({key: value})
        await worker.scheduler.update_data(
            who_has={key: [worker.address]}, nbytes={key: weight(value)}, client=self._parcel.client
        )


# --- withdrawing calls --------------------------------------------------------------------------------------------


class _Progress:
    """How far a batch has come on this worker, and which of its calls were withdrawn before they were entered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = -1
        self._withdrawn: set[int] = set()

    def entering(self, page: Page | None, index: int) -> bool:
        with self._lock:
            if index in self._withdrawn:
                return False
            self._entered = index
        return page is None or page.enter(index)

    def withdraw(self, index: int) -> bool:
        with self._lock:
            if index > self._entered:
                self._withdrawn.add(index)
            return index > self._entered


# A batch that has ended is remembered for as long as its last outcomes may be on their way.
_REMEMBERED = 10_000
_batches: OrderedDict[tuple[str, int], _Progress] = OrderedDict()
_batches_lock = threading.Lock()


def _progress(session: str, number: int) -> _Progress:
    with _batches_lock:
        progress = _batches.setdefault((session, number), _Progress())
        if len(_batches) > _REMEMBERED:
            _batches.popitem(last=False)
        return progress


def withdraw(session: str, calls: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Keep calls from being entered on this worker; run on every worker when calls are cancelled.

    Args:
        session: The driver's session.
        calls: Each call's submission and index.

    Returns:
        Those of the calls that this worker will not enter any more.
    """
    return [(number, index) for number, index in calls if _progress(session, number).withdraw(index)]


# --- the fence ----------------------------------------------------------------------------------------------------


def make_fence(session: str, ours: str) -> Any:
    """Make a scheduler plugin that lets no batch of the session run a second time.

    When a worker is lost Dask runs its tasks again elsewhere, up to `allowed-failures` times; when it retires, or is
    lost after it finished them, even without that limit. The fence sees every such task on its way back, says that no
    worker in the world may have it, and cancels it; the driver hears of that as of any cancelled task.

    The plugin takes itself away when the driver's client leaves. The class is local so that it travels by value: the
    scheduler of somebody else's cluster need not have this package.

    Args:
        session: The driver's session, with which the names of its tasks end.
        ours: The driver's Dask client.
    """

    class Fence(distributed().SchedulerPlugin):  # type: ignore[misc] # distributed has no types
        name = f"{session}-fence"

        async def start(self, scheduler: Any) -> None:
            self.scheduler = scheduler

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            if finish != "released" or start not in ("processing", "memory"):
                return
            if not isinstance(key, tuple) or not str(key[0]).endswith(session):
                return
            task = self.scheduler.tasks[key]
            if task.who_wants:  # nobody let go of it, so its worker did
                task.worker_restrictions = {"nobody"}
                cancel = partial(self.scheduler.stimulus_cancel, force=True, reason="worker-lost", msg="")
                self.scheduler.loop.add_callback(cancel, [key], ours)

        def log_event(self, topic: str, msg: Any) -> None:
            if topic == session:  # delivered; the scheduler would keep a thousand of them
                self.scheduler._broker.truncate(session)

        def remove_client(self, scheduler: Any, client: str) -> None:
            if client == ours:
                scheduler.remove_plugin(self.name)

    return Fence()


# --- the guard ----------------------------------------------------------------------------------------------------


def make_guard(session: str, lease: float) -> Any:
    """Make a nanny plugin that ends a worker which has been stopped for longer than the lease.

    Its nanny replaces the worker, and the scheduler deals with what it had as with that of any worker that dies. Only
    for a cluster of our own, with which it goes: on others it is not for us to kill.

    Args:
        session: The driver's session.
        lease: Seconds that a worker may be stopped.
    """

    class Guard(distributed().NannyPlugin):  # type: ignore[misc] # distributed has no types
        name = f"{session}-guard"

        def setup(self, nanny: Any) -> None:
            self.nanny = nanny
            self.lease = Lease(lease)
            self.watching = asyncio.ensure_future(self.watch())

        async def watch(self) -> None:
            while True:
                await asyncio.sleep(self.lease.pause)
                for pid in self.lease.expired([self.nanny.pid] if self.nanny.pid else []):
                    await self.nanny.scheduler.log_event(topic=session, msg=(FROZEN, [self.nanny.worker_address, pid]))
                    os.kill(pid, signal.SIGKILL)

        def teardown(self, nanny: Any) -> None:
            self.watching.cancel()

    return Guard()
