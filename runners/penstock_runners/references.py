"""Values that stay on the cluster, and the small handles that travel in their place.

A large value is not brought home. The driver gets a reference, and a later call that has the reference among its
arguments, at any depth, gets the value itself, which went from worker to worker.

How that works without looking through anybody's arguments: pickling a call pickles the references in it, and each of
them tells the block `collecting` that it was there. The runner makes them the cluster's own dependencies of the call.
On the worker the values are `provided` before the arguments are unpickled, and a reference that is unpickled where
its value lies becomes that value.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import WeakValueDictionary

from penstock.errors import RunnerError
from penstock.ports import Reference
from penstock_runners import pickling
from penstock_runners.pickling import Packet, Pickled

__all__ = ("INLINE_LIMIT", "ClusterReference", "Holder", "collecting", "held_by", "let_go", "provided", "weight")

# Bytes of a pickled value above which it stays where it was made: up to here one message that carries the value is
# cheaper than a second trip to fetch it (benchmarks/wire.py).
INLINE_LIMIT = 64 * 1024


class Holder(Protocol):
    """Whoever can fetch kept values: an open runner's session with its cluster."""

    def hold(self, key: str) -> Any:
        """Keep the value from being dropped for as long as the returned object lives; asked once for each value."""
        ...

    def fetch(self, key: str, handle: Any) -> Pickled:
        """Bring the value here, pickled."""
        ...


def weight(pickled: Pickled) -> int:
    """Bytes of a pickled value, its buffers included."""
    if isinstance(pickled, Packet):
        return len(pickled.head) + sum(memoryview(buffer).nbytes for buffer in pickled.buffers)
    return len(pickled)


_used: ContextVar[dict[str, ClusterReference] | None] = ContextVar("_used", default=None)
_provided: ContextVar[Mapping[str, Pickled] | None] = ContextVar("_provided", default=None)
_known: WeakValueDictionary[str, ClusterReference] = WeakValueDictionary()
_holders: WeakValueDictionary[str, Holder] = WeakValueDictionary()


class ClusterReference(Reference):
    """A handle to a value that a worker made and the cluster keeps; see `penstock.ports.Reference`.

    The value is dropped when the last handle is; it is lost when the worker that keeps it is.

    Attributes:
        session: The runner's session with the cluster; the handle is of use as long as that is open.
        key: The cluster's name for the value.
        size: Bytes of the value when pickled.
    """

    __slots__ = ("__weakref__", "_handle", "key", "session", "size")

    def __init__(self, session: str, key: str, size: int) -> None:
        self.session = session
        self.key = key
        self.size = size
        holder = _holders.get(session)
        self._handle: Any = None if holder is None else holder.hold(key)

    @property
    def handle(self) -> Any:
        """The cluster's own handle, on the driver."""
        return self._handle

    def load(self) -> Any:
        """Bring the value here; may block.

        Raises:
            RunnerError: If the runner that made the value has been closed.
            CrashedRun: If the value was lost with its worker.
        """
        holder = _holders.get(self.session)
        if holder is None:
            raise RunnerError(
                f"the value {self.key} of {self.size:,} bytes was kept on a cluster that this process no longer has "
                "open: load it, or persist the task's result, before the runner is closed"
            )
        return pickling.loads(holder.fetch(self.key, self._handle))

    def __reduce__(self) -> tuple[Any, ...]:
        if (used := _used.get()) is not None:
            used[self.key] = self
        return _arrive, (self.session, self.key, self.size)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}, {self.size:,} bytes>"


def _arrive(session: str, key: str, size: int) -> Any:
    values = _provided.get()
    if values is not None and key in values:
        return pickling.loads(values[key])
    known = _known.get(key)
    if known is None:
        known = _known[key] = ClusterReference(session, key, size)
    return known


def held_by(holder: Holder, session: str) -> None:
    """Let references of that session find their holder, for as long as it lives."""
    _holders[session] = holder


def let_go(session: str) -> None:
    """The session is closed: what it kept is gone."""
    _holders.pop(session, None)


@contextmanager
def collecting() -> Generator[dict[str, ClusterReference], None, None]:
    """Gather the references that are pickled in the block."""
    used: dict[str, ClusterReference] = {}
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


@contextmanager
def provided(values: Mapping[str, Pickled]) -> Generator[None, None, None]:
    """Let references that are unpickled in the block become their values."""
    token = _provided.set(values)
    try:
        yield
    finally:
        _provided.reset(token)
