"""What a text says of a run's id, if it is a part of one."""

from __future__ import annotations

from typing import NamedTuple

from penstock_history.keys import COUNTER_BITS

__all__ = ("AT_MOST", "Beginning", "End", "beginning_of_id", "end_of_id")

AT_MOST = 100
"""Runs that a text can mean."""

_SHORTEST = 4
"""Digits that are taken for a part of an id; fewer would fit too many."""
_ID, _COUNTER = 32, COUNTER_BITS // 4
"""Hexadecimal digits of an id, and of the part that is in a key."""


class Beginning(NamedTuple):
    """With which digits the prefix of an id begins, and between which numbers its counter is."""

    prefix: str
    first: int
    last: int


class End(NamedTuple):
    """With which digits the prefix of an id ends, and which bits of its counter are known, and how they are."""

    prefix: str
    mask: int
    counter: int

    @property
    def has_whole_counter(self) -> bool:
        """Whether it can be only one run of a process."""
        return self.mask == (1 << COUNTER_BITS) - 1


def beginning_of_id(text: str) -> Beginning | None:
    """What is known of an id that begins like this; None if none does."""
    digits = _digits(text)
    if digits is None:
        return None
    prefix, counter = digits[: _ID - _COUNTER], digits[_ID - _COUNTER :]
    return Beginning(prefix, *(int(counter.ljust(_COUNTER, filler), 16) for filler in "0f"))


def end_of_id(text: str) -> End | None:
    """What is known of an id that ends like this; None if none does."""
    digits = _digits(text)
    if digits is None:
        return None
    prefix, counter = digits[:-_COUNTER], digits[-_COUNTER:]
    return End(prefix, 16 ** len(counter) - 1, int(counter, 16))


def _digits(text: str) -> str | None:
    digits = text.strip().lower().replace("-", "")
    return digits if _SHORTEST <= len(digits) <= _ID and not set(digits) - set("0123456789abcdef") else None
