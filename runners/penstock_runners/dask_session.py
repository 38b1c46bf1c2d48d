"""A runner's conversation with a Dask cluster: batches go out, outcomes, lost workers and withdrawals come back."""

from __future__ import annotations

import asyncio  # noqa: TID251 (how long the workers may take to answer)
import pickle
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from penstock.errors import CrashedRun, SerializationError
from penstock.ports import Call, LogLine, Outcome, Report, Work
from penstock_runners.dask_cluster import Connection
from penstock_runners.dask_worker import Parcel, make_fence, run, withdraw
from penstock_runners.extras import distributed
from penstock_runners.journal import Journal
from penstock_runners.pickling import Pickled
from penstock_runners.references import ClusterReference, collecting, held_by, let_go, weight
from penstock_runners.shipments import Clerk, Manifest, Shipment, cancelled, crash
from penstock_runners.wire import Batch, PackedWork, pack, pack_work, unpack_outcome

__all__ = ("Session",)

# Bytes of a batch's arguments, or of a function, above which they are put on the cluster first: below, a message that
# carries them through the scheduler is quicker than the extra trip (benchmarks/dask_runner.py).
SCATTER_LIMIT = 256 * 1024

# Seconds that workers get to say that they will not enter a call that was cancelled.
WITHDRAWAL = 5.0

_OPTIONS = ("resources", "priority", "workers", "allow_other_workers")


@dataclass(slots=True)
class _Sent:
    """A work as this session has it: packed, the references in it, and where it lies if it is large."""

    packed: PackedWork
    references: dict[str, ClusterReference]
    future: Any = None


class Session:
    """One open runner's part of a cluster.

    Args:
        connection: The client, which is closed with the session.
        on_line: Takes log lines as they are made.
    """

    def __init__(self, connection: Connection, on_line: Callable[[Call, LogLine], None] | None) -> None:
        self.id = f"penstock-{uuid.uuid4().hex}"
        self._client = connection.client
        self._connection = connection
        self._on_line = on_line
        self._journal = Journal() if connection.local else None
        self._manifest = Manifest()
        self._works: WeakKeyDictionary[Work, _Sent] = WeakKeyDictionary()
        self._ends = distributed().as_completed(loop=self._client.loop)
        self._listening = False
        self._clerk = Clerk("penstock-dask")

    @property
    def threads(self) -> int:
        """How many calls the cluster runs at the same time."""
        return self._connection.threads

    def start(self) -> None:
        """Begin to listen."""
        held_by(self, self.id)
        self._client.register_plugin(make_fence(self.id, self._client.id))
        self._client.subscribe_topic(self.id, self._heard)

    def close(self, grace: float) -> None:
        """Withdraw what has not started, wait for the rest at most that long, and leave the cluster."""
        waiting = [call for shipment in self._manifest.all for call in list(shipment.waiting.values())]
        self._withdraw([call for call in waiting if self._manifest.take_back(call) is False])
        self._manifest.wait(grace)
        for shipment in self._manifest.all:
            self._manifest.end(shipment, cancelled)
        self._clerk.dismiss()
        let_go(self.id)
        self._connection.close()
        if self._journal is not None:
            self._journal.close()

    # --- values that stay on the cluster ----------------------------------------------------------------------

    def hold(self, key: str) -> Any:
        """Keep a value on the cluster for as long as the future lives."""
        return distributed().Future(key, self._client)

    def fetch(self, key: str, handle: Any) -> Pickled:
        """Bring a kept value here, pickled."""
        answer = self._client.sync(self._client.scheduler.gather, keys=[key])
        if answer["status"] != "OK":
            raise CrashedRun(
                f"the value {key} was kept on a Dask worker and lost with it. "
                "Run its task again, or persist its result.",
                reason="value_lost",
            )
        value: Pickled = answer["data"][key]
        return value

    # --- sending, on the clerk's thread -----------------------------------------------------------------------

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Have the calls packed and sent; from any thread."""
        self._clerk.tell(partial(self._ship, self._manifest.add(calls, report)))

    def _ship(self, shipment: Shipment) -> None:
        with shipment.lock:
            calls = list(shipment.waiting.values())
            refused = self._pack_and_send(shipment, calls) if calls else {}
            shipment.sent = True
        for index, outcome in refused.items():
            self._manifest.deliver(shipment, index, outcome)
        if shipment.handle is None:
            self._manifest.end(shipment, cancelled)

    def _pack_and_send(self, shipment: Shipment, calls: list[Call]) -> dict[int, Outcome]:
        """Send what can be sent, and give the outcomes of what cannot."""
        work = calls[0].work
        try:
            sent = self._works.get(work) or self._pack_work(work)
        except SerializationError as error:
            shipment.waiting = dict(enumerate(calls))
            return dict.fromkeys(shipment.waiting, Outcome(error=error))
        with collecting() as used:
            batch, kept, refused = pack(calls, sent.packed.digest)
        shipment.waiting = dict(enumerate([*kept, *(call for call, _ in refused)]))
        outcomes = {index: Outcome(error=error) for index, (_, error) in enumerate(refused, len(kept))}
        if kept:
            try:
                self._send(shipment, work, sent, batch, {**used, **sent.references})
            except Exception as error:  # whatever keeps Dask's client from taking a task
                what = f"Dask did not take it: {type(error).__name__}: {error}"
                lost = {i: crash(call, what, "scheduler_lost", entered=False) for i, call in enumerate(kept)}
                return outcomes | lost
        return outcomes

    def _pack_work(self, work: Work) -> _Sent:
        with collecting() as used:
            packed = pack_work(work)
        sent = self._works[work] = _Sent(packed, used)
        return sent

    def _send(
        self, shipment: Shipment, work: Work, sent: _Sent, batch: Batch, used: dict[str, ClusterReference]
    ) -> None:
        inputs = [reference.handle for reference in used.values()]
        packed: PackedWork | None = sent.packed
        if weight(sent.packed.pickled) > SCATTER_LIMIT:
            inputs, packed = [self._on_every_worker(sent), *inputs], None
        journal = None if self._journal is None else self._journal.path
        live = self._on_line is not None
        parcel = Parcel(self.id, shipment.number, self._client.id, batch, packed, tuple(used), live, journal)
        size = sum(weight(pickled) for _, pickled in batch.items)
        content = parcel if size <= SCATTER_LIMIT else self._scatter(parcel)
        key = (f"{work.name}-{self.id}", shipment.number)
        options = {name: work.options[name] for name in _OPTIONS if name in work.options}
        shipment.handle = self._client.submit(run, content, *inputs, key=key, pure=False, retries=0, **options)
        self._client.loop.add_callback(self._watch, shipment.handle)

    def _on_every_worker(self, sent: _Sent) -> Any:
        """Put a large work on every worker, once; again only if all of them have been lost."""
        if sent.future is None or sent.future.status != "finished":
            sent.future = self._scatter(sent.packed, broadcast=True)
        return sent.future

    def _scatter(self, value: Any, broadcast: bool = False) -> Any:
        # In a list, because a tuple would be taken for several values.
        return self._client.scatter([value], broadcast=broadcast, hash=False, direct=self._connection.owned or None)[0]

    # --- hearing, the first three on the client's loop, the others on the clerk's thread ----------------------

    def _heard(self, event: tuple[float, tuple[int, Sequence[bytes]]]) -> None:
        _, (number, messages) = event
        self._clerk.tell(partial(self._deliver, number, messages))

    def _watch(self, future: Any) -> None:
        self._ends.add(future)
        if not self._listening:
            self._listening = True
            self._client.loop.add_callback(self._listen)

    async def _listen(self) -> None:
        """Hear of every task that has ended; over when none is left, and begun anew with the next."""
        async for future in self._ends:
            self._clerk.tell(partial(self._ended, future))
        self._listening = False

    def _deliver(self, number: int, messages: Sequence[bytes]) -> None:
        if (shipment := self._manifest.get(number)) is None:
            return  # of a batch that was given up
        for index, message in map(pickle.loads, messages):
            if not isinstance(message, LogLine):
                self._manifest.deliver(shipment, index, unpack_outcome(message, shipment.name))
            elif self._on_line is not None and (call := shipment.waiting.get(index)) is not None:
                self._on_line(call, message)

    def _ended(self, future: Any) -> None:
        """A Dask task is over; the messages that it sent have been delivered, as they travel the same way in order."""
        number: int = future.key[1]
        if (shipment := self._manifest.get(number)) is None:
            return
        if future.status != "finished" and self._journal is not None:
            self._deliver(number, self._journal.outcomes(number))
        if shipment.waiting:
            self._lost(shipment, *_why(self._client.status, future))
        else:
            self._manifest.end(shipment, cancelled)
        if self._journal is not None:
            self._journal.forget(number)

    def _lost(self, shipment: Shipment, what: str, reason: str) -> None:
        """A Dask task ended without some of its outcomes: send again what no worker has entered."""
        if reason != "worker_lost":
            shipment.lives = 0  # what it met would meet it again
        # Workers on other machines cannot tell what they had entered; it may have been everything.
        entered = 1 + max(shipment.waiting) if self._journal is None else self._journal.entered(shipment.number)
        again = self._manifest.lose(shipment, entered, what, reason)
        if again is not None:
            self._ship(again)

    # --- cancelling, from any thread --------------------------------------------------------------------------

    def cancel(self, call: Call) -> bool:
        """Take back a call that has not been entered; blocks until every worker has promised not to enter it."""
        taken = self._manifest.take_back(call)
        if taken is False:
            self._withdraw([call])
            return self._manifest.of(call) is None
        return taken is True

    def _withdraw(self, calls: Sequence[Call]) -> None:
        found = [(self._manifest.of(call), call) for call in calls]
        places = [(s.number, index) for s, call in found if s is not None and (index := s.index(call)) is not None]
        if not places:
            return
        loop = self._client.loop.asyncio_loop
        for number, index in asyncio.run_coroutine_threadsafe(self._promised(places), loop).result():
            if (shipment := self._manifest.get(number)) is not None:
                self._manifest.deliver(shipment, index, cancelled(index))
                if not shipment.waiting:
                    shipment.handle.cancel()

    async def _promised(self, places: list[tuple[int, int]]) -> set[tuple[int, int]]:
        """Ask every worker not to enter the calls; what all of them promise will never be entered."""
        answers = self._client.run(withdraw, self.id, places, on_error="ignore", asynchronous=True)
        try:
            promises = (await asyncio.wait_for(answers, WITHDRAWAL)).values()
        except (TimeoutError, OSError):
            return set()  # a worker that does not answer promises nothing; its calls end as Dask says
        return set(places).intersection(*(map(tuple, promise) for promise in promises))


def _why(client_status: str, future: Any) -> tuple[str, str]:
    """Why a Dask task did not end well, as Dask tells it: what to say, and the word for programs."""
    if client_status != "running":
        return "the connection to the Dask scheduler was lost", "scheduler_lost"
    if future.status == "finished":
        return "its Dask worker ended the batch without it", "outcome_lost"
    if future.status == "error":
        error = future.exception()
        if isinstance(error, distributed().KilledWorker):
            where = getattr(error.last_worker, "address", error.last_worker)
            return f"the Dask worker {where} died while it had it", "worker_lost"
        return f"the Dask worker could not run it: {type(error).__name__}: {error}", "worker_error"
    if getattr(future._state.exception, "reason", None) == "lost dependencies":
        return "a value among its arguments was kept on a Dask worker and lost with it", "value_lost"
    return "the Dask worker that had it died or left", "worker_lost"
