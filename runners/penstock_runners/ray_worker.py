"""What runs on Ray's side: a batch in a worker process.

A single call is an ordinary Ray task with two results, what is to be told of the call and its value if that is large.
Several calls are a generator, whose items come home while it runs: what had come home stands when the worker dies.
Either way a large value is a Ray object of its own, which the driver owns and does not fetch.
"""

from __future__ import annotations

import pickle
import threading  # noqa: TID251 (the calls of a batch run beside the generator that brings their outcomes home)
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.ports import LogLine
from penstock_runners import extras, pickling
from penstock_runners.journal import Page
from penstock_runners.pickling import Pickled
from penstock_runners.references import INLINE_LIMIT, ClusterReference, provided, weight
from penstock_runners.wire import Batch, PackedOutcome, PackedWork
from penstock_runners.worker import Site, run_batch, settled, shelf

__all__ = ("Parcel", "run_one", "stream")

# Seconds that an outcome waits for others of its batch to share its message, which costs the driver and the batch 1 ms
# (benchmarks/cpu.py).
_COMPANY = 0.1


@dataclass(slots=True)
class Parcel:
    """A batch for one Ray task.

    Attributes:
        session: The driver's session.
        number: Which submission of the session.
        batch: The calls.
        work: Their work, or a list with the Ray object that it is because it is large.
        inputs: The keys of the kept values among the arguments, in the order of the task's values.
        live: Whether log lines are to come home while their call runs.
        journal: Where to note which call is entered, on the driver's own machine.
    """

    session: str
    number: int
    batch: Batch
    work: PackedWork | list[Any]
    inputs: tuple[str, ...]
    live: bool
    journal: str | None

    def page(self) -> Page | None:
        """Where to write down what is done of it."""
        return None if self.journal is None else Page(self.journal, self.number)

    def load_work(self) -> PackedWork:
        """The work; fetched only if this process does not have it."""
        if isinstance(self.work, PackedWork):
            return self.work
        if shelf.take(self.batch.digest) is not None:
            return PackedWork(self.batch.digest, b"")
        work: PackedWork = extras.ray().get(self.work[0])
        return work


def _open(content: Parcel | bytes) -> Parcel:
    parcel: Parcel = pickle.loads(content) if isinstance(content, bytes) else content
    return parcel


def run_one(content: Parcel | bytes, *values: Pickled) -> tuple[bytes, Pickled | None]:
    """Run a batch of one call.

    Args:
        content: The batch, a `Parcel`, pickled if it is small.
        values: The kept values among the arguments; Ray has brought them to this machine.

    Returns:
        The pickled index and outcome, and the value if it is large.
    """
    parcel = _open(content)
    outbox = _Outbox(parcel)
    outbox.run(dict(zip(parcel.inputs, values)))
    ((message, kept),) = outbox.take()
    return message, next(iter(kept.values()), None)


def stream(content: Parcel | bytes, *values: Pickled) -> Iterator[Any]:
    """Run a batch.

    Args:
        content: The batch, a `Parcel`, pickled if it is small.
        values: The kept values among the arguments; Ray has brought them to this machine.

    Yields:
        A list of pickled messages and the keys of large values, then each of those values; and so on.
    """
    outbox = _Outbox(_open(content))
    inputs = dict(zip(outbox.parcel.inputs, values))
    threading.Thread(target=outbox.run, args=(inputs,), name="penstock-batch", daemon=True).start()
    while messages := outbox.take():
        kept = {key: value for _, values in messages for key, value in values.items()}
        yield [content for content, _ in messages], list(kept)
        for value in kept.values():  # noqa: UP028 (Ray sends into the generator, which a dict's iterator refuses)
            yield value
    # A function whose timeout has passed still runs and uses this slot.
    while not settled(60.0):
        pass


_NOTHING: Mapping[str, Pickled] = {}


class _Outbox:
    """Runs a batch on one thread and gives what comes of it to another, several messages at a time.

    That other thread sleeps meanwhile: each time that it woke up, it would take the interpreter's lock away from the
    batch (benchmarks/ray_runner.py).
    """

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self._page = parcel.page()
        self._lock = threading.Lock()
        self._messages: list[tuple[bytes, Mapping[str, Pickled]]] = []
        self._filled = threading.Event()
        self._ended = threading.Event()

    def run(self, inputs: dict[str, Pickled]) -> None:
        """Run the batch; the values that its calls need of those that lie on the cluster are given."""
        parcel = self.parcel
        site = Site(entering=self._entering)
        try:
            with provided(inputs):
                run_batch(parcel.batch, parcel.load_work(), self._emit, site, self._send if parcel.live else None)
        finally:
            if self._page is not None:
                self._page.close()
            with self._lock:
                self._ended.set()
                self._filled.set()

    def take(self) -> list[tuple[bytes, Mapping[str, Pickled]]]:
        """Wait for a message, and a moment longer for others; nothing if that was all."""
        self._filled.wait()
        self._ended.wait(_COMPANY)
        with self._lock:
            messages, self._messages = self._messages, []
            if not self._ended.is_set():
                self._filled.clear()
        return messages

    def _entering(self, index: int) -> bool:
        return self._page is None or self._page.enter(index)

    def _emit(self, index: int, outcome: PackedOutcome) -> None:
        """Take an outcome; what is large of it stays here."""
        kept: dict[str, Pickled] = {}
        content = pickle.dumps((index, tuple(_leave(self.parcel, index, outcome, kept))), 5)
        if self._page is not None and not kept and len(self.parcel.batch.items) > 1:
            self._page.add(index, content)
        self._put(content, kept)

    def _send(self, index: int, line: LogLine) -> None:
        self._put(pickle.dumps((index, line), 5), _NOTHING)

    def _put(self, content: bytes, kept: Mapping[str, Pickled]) -> None:
        with self._lock:
            self._messages.append((content, kept))
            if not self._filled.is_set():
                self._filled.set()


def _leave(parcel: Parcel, index: int, outcome: PackedOutcome, kept: dict[str, Pickled]) -> PackedOutcome:
    """Put a reference in the place of a value above the limit, and the value with the kept ones."""
    if outcome.value is None or (size := weight(outcome.value)) <= INLINE_LIMIT:
        return outcome
    key = f"{parcel.session}-{parcel.number}-{index}"
    kept[key] = outcome.value
    return outcome._replace(value=pickling.dumps(ClusterReference(parcel.session, key, size)))
