"""What runs on Ray's side: a batch in a worker process.

A single call is an ordinary Ray task with two results, what is to be told of the call and its value if that is large.
Several calls are a generator, whose items come home while it runs: what had come home stands when the worker dies.
Either way a large value is a Ray object of its own, which the driver owns and does not fetch.
"""

from __future__ import annotations

import pickle
import queue
import threading  # noqa: TID251 (the calls of a batch run beside the generator that brings their outcomes home)
import time  # noqa: TID251 (how long an outcome waits; a worker has the system's time and no other)
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.ports import LogLine
from penstock_runners import extras, pickling
from penstock_runners.journal import Spool, note_entry
from penstock_runners.pickling import Pickled
from penstock_runners.references import INLINE_LIMIT, ClusterReference, provided, weight
from penstock_runners.wire import Batch, PackedOutcome, PackedWork
from penstock_runners.worker import Site, run_batch, settled, shelf

__all__ = ("Parcel", "run_one", "stream")

# Seconds that an outcome waits for others to share its message; benchmarks/ray_runner.py.
_COMPANY = 0.02


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

    def entering(self, index: int) -> bool:
        """Note that a call is about to be entered."""
        if self.journal is not None:
            note_entry(self.journal, self.number, index)
        return True

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
    made: list[tuple[int, PackedOutcome]] = []
    with provided(dict(zip(parcel.inputs, values))):
        work = parcel.load_work()
        run_batch(
            parcel.batch, work, lambda index, outcome: made.append((index, outcome)), Site(entering=parcel.entering)
        )
    (index, outcome), kept = made[0], dict[str, Pickled]()
    message = pickle.dumps((index, _leave(parcel, index, outcome, kept)), 5)
    return message, next(iter(kept.values()), None)


def stream(content: Parcel | bytes, *values: Pickled) -> Iterator[Any]:
    """Run a batch.

    Args:
        content: The batch, a `Parcel`, pickled if it is small.
        values: The kept values among the arguments; Ray has brought them to this machine.

    Yields:
        A list of pickled messages and the keys of large values, then each of those values; and so on.
    """
    parcel = _open(content)
    outbox: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
    inputs = dict(zip(parcel.inputs, values))
    thread = threading.Thread(target=_run, args=(parcel, inputs, outbox), name="penstock-batch", daemon=True)
    thread.start()
    ended = False
    while not ended:
        messages, ended = _gather(outbox)
        kept = {key: value for message in messages for key, value in message.kept.items()}
        if messages:
            yield [message.content for message in messages], list(kept)
            for value in kept.values():  # noqa: UP028 (Ray sends into the generator, which a dict's iterator refuses)
                yield value
    # A function whose timeout has passed still runs and uses this slot.
    while not settled(60.0):
        pass


@dataclass(slots=True)
class _Message:
    """An outcome or a log line, pickled, and what stays here of it."""

    content: bytes
    kept: Mapping[str, Pickled]


def _gather(outbox: queue.SimpleQueue[_Message | None]) -> tuple[list[_Message], bool]:
    """Wait for a message, and a moment longer for others; whether that was the last of them."""
    messages: list[_Message] = []
    until: float | None = None
    while True:
        try:
            message = outbox.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            return messages, False
        if message is None:
            return messages, True
        messages.append(message)
        until = until or time.monotonic() + _COMPANY


def _run(parcel: Parcel, inputs: dict[str, Pickled], outbox: queue.SimpleQueue[_Message | None]) -> None:
    spool = None if parcel.journal is None else Spool(parcel.journal, parcel.number)

    def emit(index: int, outcome: PackedOutcome) -> None:
        kept: dict[str, Pickled] = {}
        content = pickle.dumps((index, _leave(parcel, index, outcome, kept)), 5)
        if spool is not None and not kept:
            spool.add(content)
        outbox.put(_Message(content, kept))

    def send(index: int, line: LogLine) -> None:
        outbox.put(_Message(pickle.dumps((index, line), 5), {}))

    try:
        with provided(inputs):
            site = Site(entering=parcel.entering)
            run_batch(parcel.batch, parcel.load_work(), emit, site, send if parcel.live else None)
    finally:
        outbox.put(None)
        if spool is not None:
            spool.close()


def _leave(parcel: Parcel, index: int, outcome: PackedOutcome, kept: dict[str, Pickled]) -> PackedOutcome:
    """Put a reference in the place of a value above the limit, and the value with the kept ones."""
    if outcome.value is None or (size := weight(outcome.value)) <= INLINE_LIMIT:
        return outcome
    key = f"{parcel.session}-{parcel.number}-{index}"
    kept[key] = outcome.value
    return outcome._replace(value=pickling.dumps(ClusterReference(parcel.session, key, size)))
