"""What a continued flow need not do again, and where it goes on.

A frontier is asked by runs that would store their result: has a run with your identity, of the same code, completed
before? It gives each recorded result away once, and if it can to the run at the same path, so that three calls of one
task with equal arguments get three results. And it knows which runs were interrupted, with their attempts counted.

Of a changed program it can only know too little. A result belongs to a chain of names and arguments from the root
down (see `penstock.identity`) and to the code that made it: what was renamed, or gets other arguments, is not found.
"""

from __future__ import annotations

import threading  # noqa: TID251 (runs begin on many threads)
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from penstock.identity import Kept, Path, is_vague
from penstock_results.references import ResultReference

__all__ = ("Frontier", "Interrupted", "whatever_the_order")


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A run that had begun and did not end by itself.

    Attributes:
        attempts: How many attempts had begun.
        due: When the next was to begin, seconds since the epoch, or None if one was under way.
        used: How many seconds of a flow run's timeout had passed.
    """

    attempts: int
    due: float | None = None
    used: float = 0.0


_NOTHING: Mapping[Path, Interrupted] = MappingProxyType({})


class Frontier:
    """What has been done already of a flow run.

    Args:
        generations: What has completed: in the run that is continued, in the one which that continued, and so on; in
            each, the newest first. What a generation found in an older one comes in both, and counts once.
        interrupted: What had begun, by its path.
        outer: What is known besides: of the flow run around.
    """

    def __init__(
        self,
        generations: Iterable[Iterable[Kept]],
        interrupted: Mapping[Path, Interrupted] = _NOTHING,
        outer: Frontier | None = None,
    ) -> None:
        self._kept: dict[tuple[str, str], dict[Path, ResultReference]] = {}
        self._interrupted = interrupted
        self._outer = outer
        self._lock = threading.Lock()
        counts: Counter[tuple[str, ResultReference]] = Counter()
        for generation in generations:
            counts |= self._take_in(generation, counts)

    def find(self, identity: str, code: str, path: Path) -> ResultReference | None:
        """Take the result of a run that has completed, for one that would begin now.

        Args:
            identity: Which run would begin.
            code: A digest of its code.
            path: Where it would stand.
        """
        with self._lock:
            there = self._kept.get((identity, code))
            if there:
                return there.pop(path if path in there else next(iter(there)))
        return None if self._outer is None else self._outer.find(identity, code, path)

    def interrupted(self, path: Path) -> Interrupted | None:
        """What is to be continued by a run that begins now at a path."""
        mine = self._interrupted.get(path)
        return self._outer.interrupted(path) if mine is None and self._outer is not None else mine

    def _take_in(
        self, generation: Iterable[Kept], known: Counter[tuple[str, ResultReference]]
    ) -> Counter[tuple[str, ResultReference]]:
        """Add what newer generations did not have; gives how often this one had which result."""
        counts: Counter[tuple[str, ResultReference]] = Counter()
        for one in generation:
            if one.identity is None or one.code is None:
                continue
            mark = (one.identity, one.reference)
            counts[mark] += 1
            if counts[mark] > known[mark]:
                self._kept.setdefault((one.identity, one.code), {}).setdefault(one.path, one.reference)
        return counts


def whatever_the_order(kept: Iterable[Kept]) -> Iterator[Kept]:
    """Those that do not rest on the order of calls, which has changed or is not counted."""
    return (one for one in kept if one.identity is not None and not is_vague(one.identity))
