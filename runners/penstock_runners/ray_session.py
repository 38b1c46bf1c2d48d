"""A runner's conversation with Ray: batches go out, outcomes, lost workers and cancellations come back."""

from __future__ import annotations

import asyncio  # noqa: TID251 (the outcomes of batches are awaited on a loop of their own)
import os
import pickle
import signal
import threading  # noqa: TID251 (that loop's thread, and cancelling waits for Ray's answer)
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from penstock.errors import CrashedRun
from penstock.ports import Call
from penstock_runners import ray_worker
from penstock_runners.clusters import ClusterSession, Freight, OnLine
from penstock_runners.leases import Lease
from penstock_runners.pickling import Pickled
from penstock_runners.ray_cluster import Connection, RaySettings, connect, workers
from penstock_runners.ray_head import until_lost
from penstock_runners.ray_worker import Parcel
from penstock_runners.references import weight
from penstock_runners.shipments import Clerk, Shipment, cancelled
from penstock_runners.wire import Batch

__all__ = ("Session",)

# Bytes of a function above which it is a Ray object that workers fetch once, instead of a part of every batch.
WORK_LIMIT = 32 * 1024

# Seconds that Ray gets to say that a task was cancelled.
CANCELLATION = 5.0


class Session(ClusterSession):
    """One open runner's part of Ray; made, used and closed by way of the clerk, whose thread Ray belongs to.

    Args:
        settings: Where Ray is.
        on_line: Takes log lines as they are made.
        options: What ``remote_options`` says in the context of a call.

    Raises:
        MissingExtra: If Ray is not installed.
        RunnerError: If Ray cannot be started or reached.
    """

    library = "Ray"
    gone = "ray_lost"

    def __init__(
        self, settings: RaySettings, on_line: OnLine | None, options: Callable[[Call], Mapping[str, Any]]
    ) -> None:
        clerk = Clerk("penstock-ray")
        try:
            self._connection: Connection = clerk.ask(partial(connect, settings))
        except BaseException:
            clerk.dismiss()
            raise
        super().__init__(clerk, self._connection.local, settings.lease, on_line)
        self._ray = self._connection.ray
        self._options = options
        self._arrived: dict[str, Any] = {}
        self._is_lost = False
        declared = partial(self._ray.remote, num_cpus=1, max_retries=0)
        self._run_one = declared(num_returns=2)(ray_worker.run_one)
        self._stream = declared(num_returns="streaming")(ray_worker.stream)
        self._loop = asyncio.new_event_loop()
        self._listener = threading.Thread(target=self._loop.run_forever, name="penstock-ray-listener", daemon=True)
        self._listener.start()
        asyncio.run_coroutine_threadsafe(self._watch_head(self._connection.head), self._loop)
        if self._connection.owned:
            asyncio.run_coroutine_threadsafe(self._guard(Lease(settings.lease)), self._loop)

    @property
    def slots(self) -> int:
        """How many CPUs Ray has."""
        return self._connection.cpus

    def close(self, grace: float) -> None:
        """Cancel what has not started, wait for the rest at most that long, and leave Ray."""
        for shipment in self._manifest.all:
            for call in list(shipment.waiting.values()):
                self._manifest.take_back(call)
            if self._journal is None or not self._journal.has_begun(shipment.number):
                self._cancel_task(shipment, force=self._journal is not None)
        self._manifest.wait(grace)
        for shipment in self._manifest.all:
            self._cancel_task(shipment, force=True)
            self._manifest.end(shipment, cancelled)
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._listener.join()
        self._loop.close()
        self._clerk.ask(self._connection.close)
        self._let_go()

    # --- values that stay on the cluster ----------------------------------------------------------------------

    def hold(self, key: str) -> Any:
        """Keep a value in Ray's store for as long as the object reference lives."""
        return self._arrived.pop(key, None)

    def fetch(self, key: str, handle: Any) -> Pickled:
        """Bring a kept value here, pickled."""
        if self._is_lost:
            raise CrashedRun(f"the value {key} was kept in Ray's object store and lost with Ray.", reason="value_lost")
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

    def _send(self, shipment: Shipment, call: Call, batch: Batch, freight: Freight, inputs: Sequence[Any]) -> None:
        if self._is_lost:  # to send it would start another Ray
            raise ConnectionError(f"its head at {self._connection.head} does not answer any more")
        options = self._options(call)
        live = self._on_line is not None
        single = len(batch.items) == 1 and call.work.timeout is None and not live
        remote = self._run_one if single else self._stream
        if options:
            remote = remote.options(**options)
        content = self._parcel(shipment, batch, freight, tuple(reference.key for reference in inputs), live)
        handles = [reference.handle for reference in inputs]
        if single:
            told, value = remote.remote(content, *handles)
            shipment.handle = told
            told.future().add_done_callback(partial(self._told, shipment, value))
        else:
            shipment.handle = remote.remote(content, *handles)
            asyncio.run_coroutine_threadsafe(self._listen(shipment, shipment.handle), self._loop)

    def _parcel(
        self, shipment: Shipment, batch: Batch, freight: Freight, keys: tuple[str, ...], live: bool
    ) -> Parcel | bytes:
        """The batch, pickled if it is small.

        Ray takes bytes as they are, and anything else through cloudpickle, in 30 us (benchmarks/ray_runner.py); large
        arguments are worth that, because their buffers are then not copied.
        """
        work = self._stored(freight) if weight(freight.packed.pickled) > WORK_LIMIT else freight.packed
        journal = None if self._journal is None else self._journal.path
        parcel = Parcel(self.id, shipment.number, batch, work, keys, live, journal)
        size = sum(weight(pickled) for _, pickled in batch.items)
        return parcel if size > WORK_LIMIT or work is not freight.packed else pickle.dumps(parcel, 5)

    def _stored(self, freight: Freight) -> Any:
        """A work as a Ray object; in a list, so that not Ray fetches it for the task but the worker, if it has to."""
        if freight.stored is None:
            freight.stored = [self._ray.put(freight.packed)]
        return freight.stored

    # --- hearing ----------------------------------------------------------------------------------------------

    def _told(self, shipment: Shipment, value: Any, answer: Future[bytes]) -> None:
        """The one outcome of a single call is here; on a thread of Ray's."""
        if (error := answer.exception()) is not None:
            value.future()  # has the same error, which Ray would log if nobody asked for it
            self._clerk.tell(partial(self._lost, shipment, error))
            return
        self._clerk.tell(partial(self._bring_one, shipment, answer.result(), value))

    async def _listen(self, shipment: Shipment, items: Any) -> None:
        """Take what a batch yields, as it comes; on the listener's loop."""
        try:
            async for item in items:
                messages, keys = await item
                values = {key: await anext(items) for key in keys}
                self._clerk.tell(partial(self._bring, shipment, messages, values))
        except Exception as error:
            self._clerk.tell(partial(self._lost, shipment, error))
        else:
            self._clerk.tell(partial(self._over, shipment))

    def _bring(self, shipment: Shipment, messages: Sequence[bytes], values: Mapping[str, Any]) -> None:
        self._arrived.update(values)
        self._deliver(shipment, messages)
        self._arrived.clear()

    def _bring_one(self, shipment: Shipment, message: bytes, value: Any) -> None:
        self._bring(shipment, [message], {f"{self.id}-{shipment.number}-0": value})
        self._manifest.end(shipment, cancelled)

    def _over(self, shipment: Shipment) -> None:
        self._lose(shipment, "its Ray worker ended the batch without it", "outcome_lost")

    def _lost(self, shipment: Shipment, error: BaseException) -> None:
        """A Ray task failed, which a function of the user's cannot make it do."""
        if isinstance(error, self._ray.exceptions.TaskCancelledError) and shipment.cancelled:
            self._manifest.end(shipment, cancelled)
        else:
            self._lose(shipment, *self._why(error))

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

    # --- watching, on the listener's loop ---------------------------------------------------------------------

    async def _watch_head(self, address: str) -> None:
        """Leave a Ray that has lost its head, before Ray ends this process; give up what is there."""
        await until_lost(address, self._lease)
        self._is_lost = True
        await asyncio.to_thread(self._connection.close)
        self._clerk.tell(self._lose_all)

    def _lose_all(self) -> None:
        for shipment in self._manifest.all:
            self._lose(shipment, f"Ray's head at {self._connection.head} does not answer any more", self.gone)

    async def _guard(self, lease: Lease) -> None:
        """End workers that have been stopped for longer than the lease; Ray deals with them as with any that die."""
        while True:
            await asyncio.sleep(lease.pause)
            for pid in lease.expired(workers()):
                self._frozen.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

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
        if shipment.handle is not None and not self._is_lost:
            shipment.cancelled = True
            self._ray.cancel(shipment.handle, force=force)


async def _cancel_others() -> None:
    """End the other tasks of this loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
