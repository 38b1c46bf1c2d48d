"""A sink that remembers what it saw, and how tests wait for things without guessing how long they take."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from time import monotonic, process_time

from penstock.ports import Event
from penstock.states import State


class Recorder:
    """An event sink: every state of every run, by the run's id."""

    def __init__(self) -> None:
        self.states: dict[object, list[State]] = defaultdict(list)
        self.names: dict[object, str] = {}
        self._changed = threading.Condition()

    def emit(self, event: Event) -> None:
        with self._changed:
            self.states[event.run.id].append(event.state)
            self.names[event.run.id] = event.run.name
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition over what was recorded holds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def all_ended(self) -> bool:
        return all(states[-1].is_final() for states in self.states.values())

    def ends(self) -> Counter[str]:
        """How many runs have which last state."""
        return Counter(states[-1].name for states in self.states.values())

    def endings_per_run(self) -> set[int]:
        """How many terminal states single runs have had; ``{1}`` is how it must be."""
        return {sum(state.is_final() for state in states) for states in self.states.values()}


class Tally:
    """Counts, from any thread, how often functions were entered and left."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        with self._changed:
            self.counts[name] += 1
            self._changed.notify_all()

    def wait_for(self, name: str, count: int, timeout: float = 10.0) -> None:
        """Wait until something has happened often enough; fails if that takes too long."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.counts[name] >= count, timeout), (name, self.counts)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = monotonic()
        self._busy = process_time()

    @property
    def seconds(self) -> float:
        return monotonic() - self._start

    @property
    def busy(self) -> float:
        """Seconds that this process has worked since: what a bound means when the machine has other work to do."""
        return process_time() - self._busy
