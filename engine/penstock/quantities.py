"""Lengths of time and numbers of bytes as people write them, in settings and on the command line."""

from __future__ import annotations

import re

__all__ = ("bytes_in", "seconds_in")

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds_in(text: str) -> float:
    """The seconds in ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``.

    Raises:
        ValueError: If it is no length of time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no length of time: write 90s, 15m, 12h, 30d or 2w")
    return float(found[1]) * _UNITS[found[2]]


def bytes_in(text: str) -> int:
    """The bytes in ``500kB``, ``2GB`` or ``1GiB``.

    Raises:
        ValueError: If it is no number of bytes.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError  # 90 ms that few commands need

    try:
        return int(TypeAdapter(ByteSize).validate_python(text.strip()))
    except ValidationError:
        raise ValueError(f"{text!r} is no size: write 500kB, 200MB or 2GB") from None
