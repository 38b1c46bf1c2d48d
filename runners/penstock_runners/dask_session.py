"""A runner's conversation with a Dask cluster: batches go out, outcomes, lost workers and withdrawals come back."""

from __future__ import annotations

import asyncio  # noqa: TID251 (how long the workers may take to answer)
from collections.abc import Sequence
from functools import partial
from typing import Any

from penstock.errors import CrashedRun
from penstock.ports import Call
from penstock_runners.clusters import ClusterSession, Freight, OnLine
from penstock_runners.dask_cluster import Connection
from penstock_runners.dask_worker import FROZEN, Parcel, make_fence, make_guard, run, withdraw
from penstock_runners.extras import distributed
from penstock_runners.pickling import Pickled
from penstock_runners.references import weight
from penstock_runners.shipments import Clerk, Shipment, cancelled
from penstock_runners.wire import Batch, PackedWork

__all__ = ("Session",)

# Bytes of a batch's arguments, or of a function, above which they are put on the cluster first: below, a message that
# carries them through the scheduler is quicker than the extra trip (benchmarks/dask_runner.py).
SCATTER_LIMIT = 256 * 1024

# Seconds that workers get to say that they will not enter a call that was cancelled.
WITHDRAWAL = 5.0

_OPTIONS = ("resources", "priority", "workers", "allow_other_workers")


class Session(ClusterSession):
    """One open runner's part of a cluster.

    Args:
        connection: The client, which is closed with the session.
        lease: Seconds that a worker of our own cluster may be stopped.
        on_line: Takes log lines as they are made.
    """

    library = "Dask"
    gone = "scheduler_lost"

    def __init__(self, connection: Connection, lease: float, on_line: OnLine | None) -> None:
        super().__init__(Clerk("penstock-dask"), connection.local, lease, on_line)
        self._client = connection.client
        self._connection = connection
        self._ends = distributed().as_completed(loop=self._client.loop)
        self._listening = False
        self._client.register_plugin(make_fence(self.id, self._client.id))
        if connection.owned:
            self._client.register_plugin(make_guard(self.id, lease))
        self._client.subscribe_topic(self.id, self._heard)

    @property
    def slots(self) -> int:
        """How many threads the cluster's workers have."""
        return self._connection.threads

    def close(self, grace: float) -> None:
        """Withdraw what has not started, wait for the rest at most that long, and leave the cluster."""
        waiting = [call for shipment in self._manifest.all for call in list(shipment.waiting.values())]
        self._withdraw([call for call in waiting if self._manifest.take_back(call) is False])
        self._manifest.wait(grace)
        for shipment in self._manifest.all:
            self._manifest.end(shipment, cancelled)
        self._clerk.dismiss()
        self._connection.close()
        self._let_go()

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

    def _send(self, shipment: Shipment, call: Call, batch: Batch, freight: Freight, inputs: Sequence[Any]) -> None:
        handles = [reference.handle for reference in inputs]
        packed: PackedWork | None = freight.packed
        if weight(freight.packed.pickled) > SCATTER_LIMIT:
            handles, packed = [self._on_every_worker(freight), *handles], None
        journal = None if self._journal is None else self._journal.path
        live = self._on_line is not None
        keys = tuple(reference.key for reference in inputs)
        parcel = Parcel(self.id, shipment.number, self._client.id, batch, packed, keys, live, journal)
        size = sum(weight(pickled) for _, pickled in batch.items)
        content = parcel if size <= SCATTER_LIMIT else self._scatter(parcel)
        key = (f"{shipment.name}-{self.id}", shipment.number)
        options = {name: call.work.options[name] for name in _OPTIONS if name in call.work.options}
        shipment.handle = self._client.submit(run, content, *handles, key=key, pure=False, retries=0, **options)
        self._client.loop.add_callback(self._watch, shipment.handle)

    def _on_every_worker(self, freight: Freight) -> Any:
        """Put a large work on every worker, once; again only if all of them have been lost."""
        if freight.stored is None or freight.stored.status != "finished":
            freight.stored = self._scatter(freight.packed, broadcast=True)
        return freight.stored

    def _scatter(self, value: Any, broadcast: bool = False) -> Any:
        # In a list, because a tuple would be taken for several values.
        return self._client.scatter([value], broadcast=broadcast, hash=False, direct=self._connection.owned or None)[0]

    # --- hearing, the first three on the client's loop, the others on the clerk's thread ----------------------

    def _heard(self, event: tuple[float, tuple[int, Sequence[Any]]]) -> None:
        _, (number, content) = event
        if number == FROZEN:
            self._frozen.update(content)
        else:
            self._clerk.tell(partial(self._hear, number, content))

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

    def _hear(self, number: int, messages: Sequence[bytes]) -> None:
        if (shipment := self._manifest.get(number)) is not None:  # else of a batch that was given up
            self._deliver(shipment, messages)

    def _ended(self, future: Any) -> None:
        """A Dask task is over; the messages that it sent have been delivered, as they travel the same way in order."""
        number: int = future.key[1]
        if (shipment := self._manifest.get(number)) is not None:
            self._lose(shipment, *self._why(future))

    def _why(self, future: Any) -> tuple[str, str]:
        """Why a Dask task left calls without an outcome, if it did: what to say, and the word for programs."""
        if self._client.status != "running":
            return "the connection to the Dask scheduler was lost", "scheduler_lost"
        if future.status == "finished":
            return "its Dask worker ended the batch without it", "outcome_lost"
        if future.status == "error":
            error = future.exception()
            if isinstance(error, distributed().KilledWorker):
                where = getattr(error.last_worker, "address", error.last_worker)
                if where in self._frozen:
                    return self._say_frozen(where)
                return f"the Dask worker {where} died while it had it", "worker_lost"
            return f"the Dask worker could not run it: {type(error).__name__}: {error}", "worker_error"
        if getattr(future._state.exception, "reason", None) == "lost dependencies":
            return "a value among its arguments was kept on a Dask worker and lost with it", "value_lost"
        return "the Dask worker that had it died or left", "worker_lost"

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
