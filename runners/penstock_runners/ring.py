"""A ring of bytes in shared memory: a worker's small outcomes on their way home.

A message over a socket costs a system call on either side, and a moment of the driver's attention for every outcome:
of what a small call costs in all, that was a third (benchmarks/processes.py). Here the worker puts its outcomes into
memory that both can see, and the driver takes all that have gathered when it comes by. What was put there is safe from
the worker's death, as it would be in a socket.

Only a driver that is about to sleep has to be woken. It says so and then looks once more; the worker puts its message
there and then looks whether the driver sleeps. As in `slot`, at least one of them sees the other's word, because each
takes and releases a lock between its own word and the look.

To be woken for every call of a millisecond costs the driver more than what it does with the outcome. While outcomes
keep coming it therefore only *naps*: it will look again very soon by itself, and wants to be woken for nothing but a
message that makes somebody wait, such as the last one of a batch.
"""

from __future__ import annotations

import struct
import threading  # noqa: TID251 (its lock is the memory barrier)
from typing import Any

__all__ = ("ASLEEP", "NAPPING", "SIZE", "Ring")

_AWAKE = 0
NAPPING = 1
"""The driver looks again very soon, and wants to be woken for an urgent message only."""
ASLEEP = 2
"""The driver wants to be woken for any message."""

_HEAD = 24
_CAPACITY = 256 * 1024  # some thousand outcomes, more than come between two looks (benchmarks/processes.py)
SIZE = _HEAD + _CAPACITY
"""Bytes that a ring needs."""

_LENGTH = struct.Struct("<I")


class Ring:
    """One side's view of the ring.

    Args:
        view: `SIZE` bytes of shared memory that were zero in the beginning.
    """

    def __init__(self, view: memoryview) -> None:
        self._written: Any = view[0:8].cast("Q")
        self._read: Any = view[8:16].cast("Q")
        self._state: Any = view[16:24].cast("Q")
        self._bytes = view[_HEAD:SIZE]
        self._barrier = threading.Lock()

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._written, self._read, self._state, self._bytes):
            view.release()

    # --- the worker ---

    def put(self, message: bytes) -> bool:
        """Add a message; False if there is no room for it now."""
        written: int = self._written[0]
        end = written + _LENGTH.size + len(message)
        if end - self._read[0] > _CAPACITY:
            return False
        self._store(written, _LENGTH.pack(len(message)) + message)
        self._written[0] = end
        return True

    def must_wake(self, urgent: bool) -> bool:
        """Whether the driver has to hear of what was put; says yes once for each sleep.

        Args:
            urgent: Whether it is worth waking a driver that only naps.
        """
        with self._barrier:
            pass
        if self._state[0] < (NAPPING if urgent else ASLEEP):
            return False
        self._state[0] = _AWAKE
        return True

    # --- the driver ---

    def take(self) -> list[bytes]:
        """All messages that are there, in order."""
        messages: list[bytes] = []
        read: int = self._read[0]
        written: int = self._written[0]
        while read < written:
            (length,) = _LENGTH.unpack(self._load(read, _LENGTH.size))
            read += _LENGTH.size
            messages.append(self._load(read, length))
            read += length
        self._read[0] = read
        return messages

    def sleep(self, how: int) -> bool:
        """Say that the driver is going to sleep, `NAPPING` or `ASLEEP`; False if it must not: something has come."""
        self._state[0] = how
        with self._barrier:
            pass
        return bool(self._read[0] == self._written[0])

    def _store(self, position: int, data: bytes) -> None:
        start = position % _CAPACITY
        rest = _CAPACITY - start
        self._bytes[start : start + min(rest, len(data))] = data[:rest]
        if len(data) > rest:
            self._bytes[: len(data) - rest] = data[rest:]

    def _load(self, position: int, length: int) -> bytes:
        start = position % _CAPACITY
        rest = _CAPACITY - start
        if length <= rest:
            return bytes(self._bytes[start : start + length])
        return bytes(self._bytes[start:]) + bytes(self._bytes[: length - rest])
