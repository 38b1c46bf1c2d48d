"""A runner's conversation with Ray: batches go out, outcomes, lost workers and cancellations come back."""

from __future__ import annotations

import asyncio  # noqa: TID251 (the outcomes of batches are awaited on a loop of their own)
import pickle
import threading  # noqa: TID251 (that loop's thread, and cancelling waits for Ray's answer)
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from penstock.errors import CrashedRun, SerializationError
from penstock.ports import Call, LogLine, Outcome, Report, Work
from penstock_runners import ray_worker
from penstock_runners.journal import Journal
from penstock_runners.pickling import Pickled
from penstock_runners.ray_cluster import Connection, RaySettings, connect
from penstock_runners.ray_worker import Parcel
from penstock_runners.references import ClusterReference, collecting, held_by, let_go, weight
from penstock_runners.shipments import Clerk, Manifest, Shipment, cancelled, crash
from penstock_runners.wire import PackedWork, pack, pack_work, unpack_outcome

__all__ = ("Session",)

# Bytes of a function above which it is a Ray object that workers fetch once, instead of a part of every batch.
WORK_LIMIT = 32 * 1024

# Seconds that Ray gets to say that a task was cancelled.
CANCELLATION = 5.0


class Session:
    """One open runner's part of Ray; made, used and closed by way of the clerk, whose thread Ray belongs to.

    Args:
        settings: Where Ray is.
        on_line: Takes log lines as they are made.
        options: What ``remote_options`` says in the context of a call.

    Raises:
        MissingExtra: If Ray is not installed.
        RunnerError: If Ray cannot be started or reached.
    """

    def __init__(
        self,
        settings: RaySettings,
        on_line: Callable[[Call, LogLine], None] | None,
        options: Callable[[Call], Mapping[str, Any]],
    ) -> None:
        self.id = f"penstock-{uuid.uuid4().hex}"
        self._on_line = on_line
        self._options = options
        self._manifest = Manifest()
        self._works: WeakKeyDictionary[Work, tuple[PackedWork | list[Any], dict[str, ClusterReference]]] = (
            WeakKeyDictionary()
        )
        self._arrived: dict[str, Any] = {}
        self._clerk = Clerk("penstock-ray")
        try:
            self._connection: Connection = self._clerk.ask(partial(connect, settings))
        except BaseException:
            self._clerk.dismiss()
            raise
        self._ray = self._connection.ray
        self._journal = Journal() if self._connection.local else None
        declared = partial(self._ray.remote, num_cpus=1, max_retries=0)
        self._run_one = declared(num_returns=2)(ray_worker.run_one)
        self._stream = declared(num_returns="streaming")(ray_worker.stream)
        self._loop = asyncio.new_event_loop()
        self._listener = threading.Thread(target=self._loop.run_forever, name="penstock-ray-listener", daemon=True)
        self._listener.start()
        held_by(self, self.id)

    @property
    def cpus(self) -> int:
        """How many calls Ray runs at the same time."""
        return self._connection.cpus

    def close(self, grace: float) -> None:
        """Cancel what has not started, wait for the rest at most that long, and leave Ray."""
        for shipment in self._manifest.all:
            for call in list(shipment.waiting.values()):
                self._manifest.take_back(call)
            if self._journal is None or not self._journal.entered(shipment.number):
                self._cancel_task(shipment, force=self._journal is not None)
        self._manifest.wait(grace)
        for shipment in self._manifest.all:
            self._cancel_task(shipment, force=True)
            self._manifest.end(shipment, cancelled)
        let_go(self.id)
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._listener.join()
        self._loop.close()
        self._clerk.ask(self._connection.close)
        self._clerk.dismiss()
        if self._journal is not None:
            self._journal.close()

    # --- values that stay on the cluster ----------------------------------------------------------------------

    def hold(self, key: str) -> Any:
        """Keep a value in Ray's store for as long as the object reference lives."""
        return self._arrived.pop(key, None)

    def fetch(self, key: str, handle: Any) -> Pickled:
        """Bring a kept value here, pickled."""
        try:
            value: Pickled = self._ray.get(handle)
        except self._ray.exceptions.ObjectLostError as error:
            raise CrashedRun(
                f"the value {key} was kept in Ray's object store and lost: {error}. "
                "Run its task again, or persist its result.",
                reason="value_lost",
            ) from error
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
            packed, constants = self._works.get(work) or self._pack_work(work)
        except SerializationError as error:
            shipment.waiting = dict(enumerate(calls))
            return dict.fromkeys(shipment.waiting, Outcome(error=error))
        with collecting() as used:
            batch, kept, refused = pack(calls, pack_work(work).digest)
        shipment.waiting = dict(enumerate([*kept, *(call for call, _ in refused)]))
        outcomes = {index: Outcome(error=error) for index, (_, error) in enumerate(refused, len(kept))}
        if kept:
            used.update(constants)
            journal = None if self._journal is None else self._journal.path
            live = self._on_line is not None
            parcel = Parcel(self.id, shipment.number, batch, packed, tuple(used), live, journal)
            try:
                self._send(shipment, kept[0], parcel, [reference.handle for reference in used.values()])
            except Exception as error:  # whatever keeps Ray from taking a task
                what = f"Ray did not take it: {type(error).__name__}: {error}"
                lost = {i: crash(call, what, "ray_lost", entered=False) for i, call in enumerate(kept)}
                return outcomes | lost
        return outcomes

    def _pack_work(self, work: Work) -> tuple[PackedWork | list[Any], dict[str, ClusterReference]]:
        with collecting() as used:
            packed = pack_work(work)
        # In a list, Ray does not fetch the object on behalf of the task: the worker does, if it has to.
        sent = packed if weight(packed.pickled) <= WORK_LIMIT else [self._ray.put(packed)]
        self._works[work] = sent, used
        return sent, used

    def _send(self, shipment: Shipment, call: Call, parcel: Parcel, inputs: list[Any]) -> None:
        options = self._options(call)
        single = len(parcel.batch.items) == 1 and call.work.timeout is None and not parcel.live
        remote = self._run_one if single else self._stream
        if options:
            remote = remote.options(**options)
        # Ray takes bytes as they are, and anything else through cloudpickle, in 30 us (benchmarks/ray_runner.py);
        # large arguments are worth that, because their buffers are then not copied.
        size = sum(weight(pickled) for _, pickled in parcel.batch.items)
        content = parcel if size > WORK_LIMIT or not isinstance(parcel.work, PackedWork) else pickle.dumps(parcel, 5)
        if single:
            told, value = remote.remote(content, *inputs)
            shipment.handle = told
            told.future().add_done_callback(partial(self._told, shipment, value))
        else:
            shipment.handle = remote.remote(content, *inputs)
            asyncio.run_coroutine_threadsafe(self._listen(shipment, shipment.handle), self._loop)

    # --- hearing ----------------------------------------------------------------------------------------------

    def _told(self, shipment: Shipment, value: Any, answer: Future[bytes]) -> None:
        """The one outcome of a single call is here; on a thread of Ray's."""
        if (error := answer.exception()) is not None:
            self._clerk.tell(partial(self._lost, shipment, error))
            return
        self._clerk.tell(partial(self._deliver_one, shipment, answer.result(), value))

    async def _listen(self, shipment: Shipment, items: Any) -> None:
        """Take what a batch yields, as it comes; on the listener's loop."""
        try:
            async for item in items:
                messages, keys = await item
                values = {key: await anext(items) for key in keys}
                self._clerk.tell(partial(self._deliver, shipment, messages, values))
        except Exception as error:
            self._clerk.tell(partial(self._lost, shipment, error))
        else:
            self._clerk.tell(partial(self._over, shipment))

    def _deliver(self, shipment: Shipment, messages: Sequence[bytes], values: Mapping[str, Any]) -> None:
        self._arrived.update(values)
        for index, message in map(pickle.loads, messages):
            if not isinstance(message, LogLine):
                self._manifest.deliver(shipment, index, unpack_outcome(message, shipment.name))
            elif self._on_line is not None and (call := shipment.waiting.get(index)) is not None:
                self._on_line(call, message)
        self._arrived.clear()

    def _deliver_one(self, shipment: Shipment, message: bytes, value: Any) -> None:
        self._deliver(shipment, [message], {f"{self.id}-{shipment.number}-0": value})
        self._manifest.end(shipment, cancelled)

    def _over(self, shipment: Shipment) -> None:
        self._lose(shipment, "its Ray worker ended the batch without it", "outcome_lost")

    def _lost(self, shipment: Shipment, error: BaseException) -> None:
        """A Ray task failed, which a function of the user's cannot make it do."""
        if isinstance(error, self._ray.exceptions.TaskCancelledError) and shipment.cancelled:
            self._manifest.end(shipment, cancelled)
        else:
            self._lose(shipment, *self._why(error))

    def _lose(self, shipment: Shipment, what: str, reason: str) -> None:
        if shipment.waiting and self._journal is not None:
            self._deliver(shipment, self._journal.outcomes(shipment.number), {})
        if shipment.cancelled:
            self._manifest.end(shipment, cancelled)
        if reason not in ("worker_lost", "out_of_memory", "node_lost"):
            shipment.lives = 0  # what it met would meet it again
        # Workers on other machines cannot tell what they had entered; it may have been everything.
        last = max(shipment.waiting, default=-1)
        entered = 1 + last if self._journal is None else self._journal.entered(shipment.number)
        again = self._manifest.lose(shipment, entered, what, reason)
        if again is not None:
            self._ship(again)
        if self._journal is not None:
            self._journal.forget(shipment.number)

    def _why(self, error: BaseException) -> tuple[str, str]:
        """Why a Ray task failed: what to say, and the word for programs."""
        raised = self._ray.exceptions
        kinds = {
            raised.OutOfMemoryError: ("Ray killed its worker because the machine ran out of memory", "out_of_memory"),
            raised.NodeDiedError: ("the node that it ran on died", "node_lost"),
            raised.LocalRayletDiedError: ("Ray's own process on this machine died", "ray_lost"),
            raised.ObjectLostError: ("a value among its arguments was kept in Ray's store and lost", "value_lost"),
            raised.WorkerCrashedError: ("the Ray worker that had it died", "worker_lost"),
        }
        for kind, why in kinds.items():
            if isinstance(error, kind):
                return why
        cause = getattr(error, "cause", None) or error
        return f"the Ray worker could not run it: {type(cause).__name__}: {cause}", "worker_error"

    # --- cancelling, from any thread --------------------------------------------------------------------------

    def cancel(self, call: Call) -> bool:
        """Take a call back, or end the worker that runs it if that harms no other; waits for Ray's answer."""
        taken = self._manifest.take_back(call)
        if taken is not False or (shipment := self._manifest.of(call)) is None:
            return taken is True
        if any(other is not call for other in shipment.waiting.values()):
            return False
        self._cancel_task(shipment, force=True)
        return self._manifest.gone(shipment, CANCELLATION)

    def _cancel_task(self, shipment: Shipment, *, force: bool) -> None:
        if shipment.handle is not None:
            shipment.cancelled = True
            self._ray.cancel(shipment.handle, force=force)


async def _cancel_others() -> None:
    """End the other tasks of this loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
