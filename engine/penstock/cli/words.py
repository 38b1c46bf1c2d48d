"""Times, sizes and states in words: how they are printed, and how they are read from a command line."""

from __future__ import annotations

import re
import time  # noqa: TID251 (a command's user lives by the system's clock)
from datetime import datetime

import click

from penstock.cli.output import Cell

__all__ = ("age", "byte_count", "duration", "iso", "local_time", "moment", "size", "state_cell")

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


_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def age(text: str) -> float:
    """Read a length of time, for an option: ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``, in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no length of time: write 90s, 15m, 12h, 30d or 2w.")
    return float(found[1]) * _UNITS[found[2]]


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
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise click.BadParameter(f"{text!r} is no size: write 500kB, 200MB or 2GB.")
    step = 1024 if found[3] else 1000
    return int(float(found[1]) * step ** " kmgt".index(found[2].lower() or " "))
