"""A runner's conversation with a Dask cluster: batches go out, outcomes, lost workers and withdrawals come back."""

from __future__ import annotations

import asyncio  # noqa: TID251 (how long the workers may take to answer)
import itertools
import pickle
import threading  # noqa: TID251 (closing waits for what still runs)
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from penstock.errors import Cancelled, CrashedRun, SerializationError
from penstock.ports import Call, LogLine, Outcome, Report, Work
from penstock_runners.dask_cluster import Connection
from penstock_runners.dask_worker import Parcel, make_fence, run, withdraw
from penstock_runners.extras import distributed
from penstock_runners.pickling import Pickled
from penstock_runners.references import ClusterReference, collecting, held_by, weight
from penstock_runners.shipments import Clerk, Shipment
from penstock_runners.wire import PackedWork, pack, pack_work, unpack_outcome

__all__ = ("Session",)

# Bytes of a batch's arguments, or of a function, above which they are put on the cluster first: below, a message that
# carries them through the scheduler is quicker than the extra trip (benchmarks/dask_floor.py).
SCATTER_LIMIT = 256 * 1024

# Seconds that workers get to say that they will not enter a call that was cancelled.
WITHDRAWAL = 5.0

_OPTIONS = ("resources", "priority", "workers", "allow_other_workers")


@dataclass(slots=True)
class _Sent:
    """A work as this session has it: packed, the references in it, and where it lies if it is large."""

    packed: PackedWork
    references: list[ClusterReference]
    future: Any = None


class Session:
    """Everything here runs on the clerk's thread, except what says otherwise."""

    def __init__(self, connection: Connection, on_line: Callable[[Call, LogLine], None] | None) -> None:
        self.id = f"penstock-{uuid.uuid4().hex}"
        self._client = connection.client
        self._connection = connection
        self._on_line = on_line
        self._clerk = Clerk("penstock-dask")
        self._numbers = itertools.count()
        self._shipments: dict[int, Shipment] = {}
        self._places: dict[Call, tuple[int, int]] = {}
        self._works: WeakKeyDictionary[Work, _Sent] = WeakKeyDictionary()
        self._unwanted: list[Call] = []
        self._settled = threading.Condition()

    @property
    def threads(self) -> int:
        """How many calls the cluster runs at the same time."""
        return self._connection.threads

    def start(self) -> None:
        """Begin to listen; on the thread that opens the runner."""
        self._ends = distributed().as_completed(loop=self._client.loop)
        self._listening = False
        held_by(self, self.id)
        self._client.register_plugin(make_fence(self.id, self._client.id))
        self._client.subscribe_topic(self.id, self._heard)

    # --- from any thread --------------------------------------------------------------------------------------

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Have the calls packed and sent."""
        self._clerk.tell(partial(self._submit, calls, report))

    def cancel(self, call: Call) -> None:
        """Have the call withdrawn, if no worker has entered it; it is then reported as cancelled."""
        self._clerk.tell(partial(self._cancel, call))

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

    def close(self, grace: float) -> None:
        """Withdraw what has not started, wait for the rest at most that long, and leave the cluster."""
        self._clerk.tell(self._cancel_all)
        with self._settled:
            self._settled.wait_for(lambda: not self._places, grace)
        self._clerk.ask(self._abandon)
        self._clerk.dismiss()
        self._connection.close()

    # --- sending ----------------------------------------------------------------------------------------------

    def _submit(self, calls: Sequence[Call], report: Report) -> None:
        work = calls[0].work
        try:
            sent = self._works.get(work) or self._pack_work(work)
        except SerializationError as error:
            for call in calls:
                report(call, Outcome(error=error))
            return
        with collecting() as used:
            batch, kept, refused = pack(calls, sent.packed.digest)
        for call, refusal in refused:
            report(call, Outcome(error=refusal))
        if not kept:
            return
        shipment, number = Shipment(kept, report), next(self._numbers)
        self._shipments[number] = shipment
        self._places.update((call, (number, index)) for index, call in enumerate(kept))
        used.update((reference.key, reference) for reference in sent.references)
        parcel = Parcel(self.id, number, self._client.id, batch, None, tuple(used), self._on_line is not None)
        try:
            shipment.handle = self._send(parcel, sent, [reference.handle for reference in used.values()], work)
        except Exception as error:  # whatever keeps Dask's client from taking a task
            self._lost(number, f"Dask did not take it: {type(error).__name__}: {error}", "scheduler_lost")

    def _pack_work(self, work: Work) -> _Sent:
        with collecting() as used:
            packed = pack_work(work)
        sent = self._works[work] = _Sent(packed, list(used.values()))
        return sent

    def _send(self, parcel: Parcel, sent: _Sent, inputs: list[Any], work: Work) -> Any:
        if weight(sent.packed.pickled) <= SCATTER_LIMIT:
            parcel.work = sent.packed
        else:
            inputs = [self._on_cluster(sent), *inputs]
        size = sum(weight(pickled) for _, pickled in parcel.batch.items)
        content = parcel if size <= SCATTER_LIMIT else self._scatter(parcel)
        key = (f"{work.name}-{self.id}", parcel.number)
        options = {name: work.options[name] for name in _OPTIONS if name in work.options}
        future = self._client.submit(run, content, *inputs, key=key, pure=False, retries=0, **options)
        self._client.loop.add_callback(self._watch, future)
        return future

    def _on_cluster(self, sent: _Sent) -> Any:
        """Put a large work on every worker, once; again only if all of them have been lost."""
        if sent.future is None or sent.future.status != "finished":
            sent.future = self._scatter(sent.packed, broadcast=True)
        return sent.future

    def _scatter(self, value: Any, broadcast: bool = False) -> Any:
        # In a list, because a tuple would be taken for several values.
        return self._client.scatter([value], broadcast=broadcast, hash=False, direct=self._connection.owned or None)[0]

    # --- hearing; the first three on the client's loop --------------------------------------------------------

    def _heard(self, event: tuple[float, tuple[int, bytes]]) -> None:
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

    def _deliver(self, number: int, messages: bytes) -> None:
        shipment = self._shipments.get(number)
        if shipment is None:
            return  # a late message of a batch that was given up
        for index, message in pickle.loads(messages):
            if isinstance(message, LogLine):
                shipment.deliver_line(index, message, self._on_line)
            elif (call := shipment.deliver(index, unpack_outcome(message, shipment.name))) is not None:
                self._forget(call)

    def _ended(self, future: Any) -> None:
        """A Dask task is over; the messages that it sent have been delivered, as they travel the same way in order."""
        number = future.key[1]
        shipment = self._shipments[number]
        if shipment.done:
            del self._shipments[number]
        elif future.status == "finished":
            self._lost(number, "its worker ended the batch without it", "outcome_lost")
        else:
            self._lost(number, *_reason(self._client.status, future))

    def _lost(self, number: int, what: str, reason: str) -> None:
        shipment = self._shipments.pop(number)
        self._forget(*shipment.deliver_rest(partial(_crash, what, reason)))

    def _forget(self, *calls: Call) -> None:
        for call in calls:
            del self._places[call]
        if not self._places:
            with self._settled:
                self._settled.notify_all()

    # --- cancelling -------------------------------------------------------------------------------------------

    def _cancel(self, call: Call) -> None:
        """Cancellations come in swarms: ask for all of a swarm when the orders given so far have been gone through."""
        self._unwanted.append(call)
        if len(self._unwanted) == 1:
            self._clerk.tell(self._withdraw)

    def _cancel_all(self) -> None:
        self._unwanted.extend(self._places)
        self._withdraw()
        self._forget()

    def _withdraw(self) -> None:
        calls, self._unwanted = self._unwanted, []
        places = [self._places[call] for call in calls if call in self._places]
        if places:
            self._client.loop.add_callback(self._ask_workers, places)

    async def _ask_workers(self, places: list[tuple[int, int]]) -> None:
        """Have every worker promise not to enter the calls; a call that all of them promised will never be entered."""
        answers = self._client.run(withdraw, self.id, places, on_error="ignore", asynchronous=True)
        try:
            promised = [set(map(tuple, answer)) for answer in (await asyncio.wait_for(answers, WITHDRAWAL)).values()]
        except (TimeoutError, OSError):
            return  # a worker that does not answer promises nothing; its calls end as Dask says
        certain = set(places).intersection(*promised)
        self._clerk.tell(partial(self._withdrawn, certain))

    def _withdrawn(self, places: set[tuple[int, int]]) -> None:
        numbers = {number for number, _ in places}
        for number, index in places:
            if (shipment := self._shipments.get(number)) is None:
                continue
            if (call := shipment.deliver(index, Outcome(error=Cancelled()))) is not None:
                self._forget(call)
        for number in numbers:
            if (shipment := self._shipments.get(number)) is not None and shipment.done:
                shipment.handle.cancel()

    def _abandon(self) -> None:
        """Report as cancelled what still runs, before the cluster is left."""
        for number in list(self._shipments):
            shipment = self._shipments.pop(number)
            self._forget(*shipment.deliver_rest(lambda _: Outcome(error=Cancelled())))


def _reason(client_status: str, future: Any) -> tuple[str, str]:
    """Why a Dask task did not end well, as Dask tells it: what to say, and the word for programs."""
    if client_status != "running":
        return "the connection to the Dask scheduler was lost", "scheduler_lost"
    if future.status != "error":
        error = future._state.exception
        if getattr(error, "reason", None) == "lost dependencies":
            return "a value among its arguments was kept on a Dask worker and lost with it", "value_lost"
        return "the Dask worker that had it died or left", "worker_lost"
    error = future.exception()
    if isinstance(error, distributed().KilledWorker):
        where = getattr(error.last_worker, "address", error.last_worker)
        return f"the Dask worker {where} died while it had it", "worker_lost"
    return f"the Dask worker could not run it: {type(error).__name__}: {error}", "worker_error"


def _crash(what: str, reason: str, call: Call) -> Outcome:
    message = (
        f"task {call.work.name!r} was lost: {what}. It may have run in part. "
        "Give the task crash_retries=n if it can safely run again."
    )
    return Outcome(crash=CrashedRun(message, reason=reason))
