"""A process that forks writers on demand: each writes results, as fast as it can, until somebody kills it.

Forking from a process that has imported everything makes two hundred kills a matter of seconds. The protocol is one
line in, ``<seed>``, and two out: the writer's process id, and ``reaped`` once it has died and been waited for.
"""

from __future__ import annotations

import os
import random
import sys

from penstock.results import ResultStore

__all__ = ("KEYS", "value")

KEYS = ("fixed/a", "fixed/b")


def value(key: str, number: int, size: int) -> list[object]:
    """Make a value that anybody can recognise as whole: its bytes repeat what its first items say."""
    return [key, number, size, bytes([number % 251]) * size]


def write_for_ever(store: ResultStore, seed: int) -> None:
    chance = random.Random(seed)
    number = 0
    while True:
        size = chance.choice((10, 1_000, 100_000, 2_000_000))
        key = chance.choice((*KEYS, f"new/{seed}/{number % 5}"))
        store.write(value(key, number, size), key)
        number += 1


def main() -> None:
    store = ResultStore(sys.argv[1])
    store.write(value("fixed/a", 0, 10), "fixed/a")
    for line in sys.stdin:
        writer = os.fork()
        if writer == 0:
            write_for_ever(store, int(line))
        print(writer, flush=True)
        os.waitpid(writer, 0)
        print("reaped", flush=True)


if __name__ == "__main__":
    main()
