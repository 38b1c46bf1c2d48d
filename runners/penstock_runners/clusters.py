"""What the Dask and the Ray runner have in common: the runner's face, and its session's conversation with a cluster.

Batches go out; outcomes, lost workers and withdrawals come back. How something is sent, and what a library says of a
worker that is lost, is for the two sessions to know.
"""

from __future__ import annotations

import pickle
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakKeyDictionary

from penstock.errors import SerializationError
from penstock.ports import Call, LogLine, Outcome, Reference, Report, Work
from penstock_runners.base import TaskRunner
from penstock_runners.journal import Journal
from penstock_runners.pickling import Pickled
from penstock_runners.references import ClusterReference, collecting, held_by, let_go
from penstock_runners.shipments import WORKER_GONE, Clerk, Manifest, Shipment, cancelled, crash
from penstock_runners.wire import Batch, PackedOutcome, PackedWork, pack, pack_work, unpack_outcome

__all__ = ("ClusterSession", "ClusterTaskRunner", "Freight", "OnLine")

OnLine = Callable[[Call, LogLine], None]


@dataclass(slots=True)
class Freight:
    """A work as a session has it.

    Attributes:
        packed: The work.
        references: The values kept on the cluster among what its calls share.
        stored: The cluster's own handle to it, if it is so large that it was put there.
    """

    packed: PackedWork
    references: dict[str, ClusterReference]
    stored: Any = None


class ClusterSession(ABC):
    """An open connection to a cluster.

    Args:
        clerk: Does the packing, the sending and the reporting.
        local: Whether all workers run on this machine.
        lease: Seconds that a worker may be stopped, for the text of an error.
        on_line: Takes log lines as they are made.
    """

    library: ClassVar[str]
    gone: ClassVar[str]
    """The reason of calls that the library did not take: whose place is to be lost, as a word for programs."""

    def __init__(self, clerk: Clerk, local: bool, lease: float, on_line: OnLine | None) -> None:
        self.id = f"penstock-{uuid.uuid4().hex}"
        self._clerk = clerk
        self._lease = lease
        self._on_line = on_line
        self._journal = Journal() if local else None
        self._manifest = Manifest()
        self._freights: WeakKeyDictionary[Work, Freight] = WeakKeyDictionary()
        self._frozen: set[object] = set()
        held_by(self, self.id)

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many calls the cluster runs at the same time."""

    @abstractmethod
    def hold(self, key: str) -> Any:
        """See `references.Holder`."""

    @abstractmethod
    def fetch(self, key: str, handle: Any) -> Pickled:
        """See `references.Holder`."""

    @abstractmethod
    def cancel(self, call: Call) -> bool:
        """See `TaskRunner.cancel`."""

    @abstractmethod
    def close(self, grace: float) -> None:
        """See `TaskRunner.close`."""

    @abstractmethod
    def _send(self, shipment: Shipment, call: Call, batch: Batch, freight: Freight, inputs: Sequence[Any]) -> None:
        """Hand a batch to the library, and give the shipment its handle.

        Args:
            shipment: What to send.
            call: The first of its calls.
            batch: Its calls, packed.
            freight: Their work.
            inputs: References to the values kept on the cluster that the calls need.
        """

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Have the calls packed and sent; from any thread."""
        self._clerk.tell(partial(self._ship, self._manifest.add(calls, report)))

    # --- sending, on the clerk's thread -----------------------------------------------------------------------

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
            freight = self._freights.get(work) or self._load(work)
        except SerializationError as error:
            shipment.waiting = dict(enumerate(calls))
            return dict.fromkeys(shipment.waiting, Outcome(error=error))
        with collecting() as used:
            batch, kept, refused = pack(calls, freight.packed.digest)
        shipment.waiting = dict(enumerate([*kept, *(call for call, _ in refused)]))
        outcomes = {index: Outcome(error=error) for index, (_, error) in enumerate(refused, len(kept))}
        if kept:
            used.update(freight.references)
            try:
                self._send(shipment, kept[0], batch, freight, list(used.values()))
            except Exception as error:  # whatever keeps the library from taking a task
                what = f"{self.library} did not take it: {type(error).__name__}: {error}"
                outcomes |= {i: crash(call, what, self.gone, entered=False) for i, call in enumerate(kept)}
        return outcomes

    def _load(self, work: Work) -> Freight:
        with collecting() as used:
            packed = pack_work(work)
        freight = self._freights[work] = Freight(packed, used)
        return freight

    # --- hearing, on the clerk's thread -----------------------------------------------------------------------

    def _deliver(self, shipment: Shipment, messages: Sequence[bytes]) -> None:
        """Report the outcomes, and pass the log lines on, that a worker has sent."""
        for index, content in map(pickle.loads, messages):
            if type(content) is tuple:
                self._manifest.deliver(shipment, index, unpack_outcome(PackedOutcome(*content), shipment.name))
            elif self._on_line is not None and (call := shipment.waiting.get(index)) is not None:
                self._on_line(call, content)

    def _lose(self, shipment: Shipment, what: str, reason: str) -> None:
        """Its worker is done with a submission, or gone: what it wrote down stands, what it never entered goes again.

        Args:
            shipment: The submission.
            what: Why calls may be missing, for people.
            reason: The same as a word for programs.
        """
        # Workers on other machines cannot tell what they had entered; it may have been everything.
        entered = 1 + max(shipment.waiting, default=-1)
        if self._journal is not None and shipment.waiting:
            worker, entered, outcomes = self._journal.fence(shipment.number)
            self._deliver(shipment, outcomes)
            if worker in self._frozen:
                what, reason = self._say_frozen(f"pid {worker}")
        if shipment.cancelled:
            self._manifest.end(shipment, cancelled)
        if reason not in WORKER_GONE:
            shipment.lives = 0  # what it met would meet it again
        again = self._manifest.lose(shipment, entered, what, reason)
        if again is not None:
            self._ship(again)
        if self._journal is not None:
            self._journal.forget(shipment.number)

    def _say_frozen(self, worker: str) -> tuple[str, str]:
        what = f"its {self.library} worker ({worker}) was stopped by a signal for more than the lease of "
        return f"{what}{self._lease:g} s, and was killed", "frozen"

    def _let_go(self) -> None:
        """Forget the values that the cluster kept, and the journal; the last step of closing."""
        let_go(self.id)
        self._clerk.dismiss()
        if self._journal is not None:
            self._journal.close()


S = TypeVar("S", bound=ClusterSession)


class ClusterTaskRunner(TaskRunner, Generic[S]):
    """A runner whose calls go to a cluster through a session that `open` makes."""

    remote: ClassVar[bool] = True
    batches: ClassVar[bool] = True
    batch_seconds: float = 0.2
    """A trip costs the driver milliseconds of its processor, 4 on Ray: shorter batches were up to a third slower where
    the workers need all processors (benchmarks/cpu.py)."""

    _session: S | None = None

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Send the calls as one task of the cluster's; their outcomes come home as they end."""
        self._opened().submit(calls, report)

    def cancel(self, call: Call) -> bool:
        """Withdraw or stop the call as far as the cluster can; takes a few milliseconds.

        Returns:
            Whether it is certain that the function does not run and never will.
        """
        return self._opened().cancel(call)

    def accepts(self, reference: Reference) -> bool:
        """Whether the value is kept on this cluster; it then goes from worker to worker."""
        session = self._session
        return session is not None and isinstance(reference, ClusterReference) and reference.session == session.id

    def close(self, grace: float) -> None:
        """Withdraw what waits, give what runs ``grace`` seconds, leave the cluster, and stop it if it is ours."""
        super().close(grace)
        session, self._session = self._session, None
        if session is not None:
            session.close(grace)

    def _opened(self) -> S:
        if self._session is None:
            raise self._not_open()
        return self._session
