"""By which integers the tables know runs.

The ids of one process differ only in a counter (`penstock.names`): their upper 96 bits, the prefix, are all the same
for its first four thousand million runs. Each process that records numbers the prefixes that it meets, its own and
those of workers whose nested runs come home to it, and a run's key is that number and the id's lower 32 bits. The same
prefix may have one number for each process that met it, so a number always belongs to one process: when that is dead
and its runs are deleted, the number can go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

__all__ = ("COUNTER_BITS", "COUNTER_MASK", "Found", "Numbers", "int_of", "key_of", "prefix_of", "to_uuid")

COUNTER_BITS = 32
COUNTER_MASK = (1 << COUNTER_BITS) - 1


def int_of(text: str) -> int:
    """A run's id as an integer, from its text; three times as quick as `UUID`."""
    return int(text.replace("-", ""), 16)


def prefix_of(run_id: int) -> bytes:
    """What a run's id has in common with those of its process, as twelve bytes."""
    return (run_id >> COUNTER_BITS).to_bytes(12, "big")


def key_of(number: int, run_id: int) -> int:
    """The key of a run whose prefix has this number."""
    return number << COUNTER_BITS | run_id & COUNTER_MASK


def to_uuid(prefix: bytes, key: int) -> UUID:
    """The id of the run with this key, whose number stands for this prefix."""
    return UUID(int=int.from_bytes(prefix, "big") << COUNTER_BITS | key & COUNTER_MASK)


class Found(NamedTuple):
    """A run that is there: its key, that of the outermost run around it, and the number of its state's type."""

    key: int
    root: int
    type: int

    @property
    def is_root(self) -> bool:
        """Whether no other run is around it."""
        return self.key == self.root


class Numbers:
    """The numbers of prefixes that are known already, and where to ask for the others.

    Args:
        find: Gives the number of a prefix that is not known yet.
    """

    def __init__(self, find: Callable[[bytes], int]) -> None:
        self._find = find
        self._known: dict[int, int] = {}

    def key_of(self, run_id: int) -> int:
        """The key of a run."""
        prefix = run_id >> COUNTER_BITS
        number = self._known.get(prefix)
        if number is None:
            number = self._known[prefix] = self._find(prefix_of(run_id))
        return number << COUNTER_BITS | run_id & COUNTER_MASK
