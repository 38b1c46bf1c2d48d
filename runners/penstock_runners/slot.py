"""Memory that the driver and one worker share: where the worker is, and which calls it must leave out.

A worker that is killed cannot say what it was doing, and a message saved up in its process dies with it. What it
wrote into shared memory stays. So the worker writes down each call before it enters it, and the driver knows for
certain which call was under way and which had not begun.

Cancelling a call that has been sent is a race between two sides that each write one word and read the other's: the
worker writes "I am at call i" and then reads the flag of i; the driver writes the flag of i and then reads where the
worker is. Whatever the order, at least one of them sees the other's word, provided that neither processor lets the
read overtake the write: taking and releasing a lock between the two keeps it from that.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading  # noqa: TID251 (its lock is the memory barrier)
import time  # noqa: TID251 (one clock for both sides)
from typing import Any

from penstock_runners import ring

__all__ = ("LARGEST", "Slot", "new_file")

LARGEST = 32_768
"""How many calls one shipment may have: as many as there are flags."""

_FLAGS = 16
_RING = _FLAGS + LARGEST
_SIZE = _RING + ring.SIZE


def new_file() -> int:
    """Make the file behind a slot, without a name, and give its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("penstock-slot")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _SIZE)
    return descriptor


class Slot:
    """One side's view of the memory.

    Args:
        descriptor: What `new_file` gave; closed here, as the mapping keeps the file.

    Attributes:
        ring: Where the worker leaves small outcomes.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _SIZE)
        os.close(descriptor)
        self._view = memoryview(self._map)
        self._position: Any = self._view[0:8].cast("Q")
        self._since: Any = self._view[8:16].cast("d")
        self._flags = self._view[_FLAGS:_RING]
        self.ring = ring.Ring(self._view[_RING:])
        self._barrier = threading.Lock()

    def close(self) -> None:
        """Let go of the memory."""
        self.ring.close()
        for view in (self._position, self._since, self._flags, self._view):
            view.release()
        self._map.close()

    # --- the worker ---

    def enter(self, shipment: int, index: int) -> bool:
        """Write down that a call is entered now; False if it was cancelled before."""
        self._since[0] = time.monotonic()
        self._position[0] = shipment << 32 | index
        with self._barrier:
            pass
        return not self._flags[index]

    # --- the driver ---

    def clear(self) -> None:
        """Forget the flags; only while the worker has nothing to do."""
        self._flags[:] = bytes(LARGEST)

    def revoke(self, shipment: int, index: int) -> bool:
        """Keep the worker from entering a call; False if it may have entered it already."""
        self._flags[index] = 1
        with self._barrier:
            pass
        return self.position(shipment) < index

    def position(self, shipment: int) -> int:
        """The call that was entered last, -1 if none of this shipment was."""
        number, index = divmod(self._position[0], 1 << 32)
        return index if number == shipment else -1

    def since(self) -> float:
        """When the last call was entered, on the monotonic clock."""
        return float(self._since[0])
