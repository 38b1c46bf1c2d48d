"""Times, sizes and states in words: how they are printed, and how they are read from a command line."""

from __future__ import annotations

import time  # noqa: TID251 (a command's user lives by the system's clock)
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import click

from penstock.cli.output import Cell
from penstock.quantities import bytes_in, seconds_in

__all__ = ("age", "byte_count", "duration", "iso", "local_time", "moment", "size", "state_cell")

T = TypeVar("T")

_STYLES = {
    "SCHEDULED": "yellow",
    "PENDING": "yellow",
    "RUNNING": "blue",
    "PAUSED": "yellow",
    "CANCELLING": "yellow",
    "COMPLETED": "green",
    "FAILED": "red",
    "CRASHED": "red",
    "CANCELLED": "magenta",
    "SKIPPED": "magenta",
}


def state_cell(type: str, name: str) -> Cell:  # noqa: A002 (the field's name in State)
    """A state's name in the colour of its type."""
    return Cell(name, _STYLES.get(type, ""))


def duration(seconds: float | None) -> str:
    """A length of time, with about three digits."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def byte_count(count: float | None) -> str:
    """A number of bytes, with about three digits."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def local_time(seconds: float | None) -> str:
    """A moment by the clock on the wall."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def iso(seconds: float | None) -> str | None:
    """A moment for programs: ISO 8601 with its time zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat()


def age(text: str) -> float:
    """Read a length of time, for an option: ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``, in seconds."""
    return _read(seconds_in, text)


def moment(text: str) -> float:
    """Read a moment, for an option: a date with or without a time, or how long ago it was; seconds since the epoch."""
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - age(text)
    except click.BadParameter:
        raise click.BadParameter(
            f"{text!r} is no time: write 12h or 30d for that long ago, or 2026-11-21T14:30."
        ) from None


def size(text: str) -> int:
    """Read a number of bytes, for an option: ``500kB``, ``2GB``, ``1GiB``."""
    return _read(bytes_in, text)


def _read(convert: Callable[[str], T], text: str) -> T:
    try:
        return convert(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
