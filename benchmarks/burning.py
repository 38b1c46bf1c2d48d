"""Work that keeps one processor busy for a given time, for the benchmarks that need real work."""

from __future__ import annotations

import time


def burn(loops: int) -> int:
    """Keep a processor busy."""
    value = 1
    for _ in range(loops):
        value = (value * 1_103_515_245 + 12_345) & 0x7FFFFFFF
    return value


def burn_many(loops: int, count: int) -> None:
    """Do the work of several tasks, with nothing between them."""
    for _ in range(count):
        burn(loops)


def loops_for(seconds: float) -> int:
    """How many loops take so many seconds of an undisturbed processor here."""
    trial = 20_000
    times = list[float]()
    for _ in range(30):
        began = time.perf_counter()
        burn(trial)
        times.append(time.perf_counter() - began)
    return max(1, round(trial * seconds / min(times)))
