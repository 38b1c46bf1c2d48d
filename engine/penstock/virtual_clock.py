"""Time for tests: it stands still until a test moves it, or until nothing else can happen.

When may virtual time jump? When every live run of the engines on this clock *rests*: all that it can do waits for
other runs, or for a timer of this clock (`edges.resting`). A run whose function computes, sleeps or talks to a
socket does not rest, so its work takes no virtual time, and no timer overtakes it. One look at many threads proves
nothing, since one of them may wake another behind the looker's back; but a signal happens only once, so two looks that
find every run at rest on the very same signals, none of which has happened, prove that nothing moved between them.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (asks whether a loop runs in this thread, and lets it turn)
import heapq
import itertools
import threading  # noqa: TID251 (the thread that jumps)
from collections.abc import Callable, Iterable

from penstock.clock import serve_timers_here
from penstock.context import current_run
from penstock.edges import stopped_loops
from penstock.engine import engines_on
from penstock.flow_runs import FlowRun
from penstock.records import Run

__all__ = ("VirtualClock",)

_Picture = list[tuple[int, tuple[int, ...]]]

_LOOK_AGAIN = 0.0005
"""Real seconds between two looks at runs that do not all rest: short beside a thread switch under load (5 ms)."""

_TURNS = 3
"""How often a loop must turn before its timers count: a coroutine, its task and whoever gathers it each take one."""


class VirtualClock:
    """A `penstock.ports.Clock` whose time is moved by hand, or moves by itself over stretches in which nothing happens.

    By hand, `advance` runs what becomes due, in order, in the calling thread. With ``autojump=True``, as soon as every
    run of an entered engine waits, time jumps to the next timer: a day of retry delays takes milliseconds. A function
    that never ends by itself holds time still; move it by hand to see it time out.

    Args:
        start: What `time` shows at first, seconds since the epoch.
        autojump: Whether time jumps when every run rests.
    """

    def __init__(self, start: float = 1_700_000_000.0, *, autojump: bool = False) -> None:
        self._start = start
        self._now = 0.0
        self._autojump = autojump
        self._heap: list[_Timer] = []
        self._order = itertools.count()
        self._changed = threading.Condition(threading.RLock())
        self._jumper: threading.Thread | None = None

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._start + self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        """Run ``callback`` when ``delay`` seconds of virtual time have passed."""
        loop = asyncio._get_running_loop()
        with self._changed:
            timer = _Timer(self, self._now + max(0.0, delay), next(self._order), callback, loop, current_run.get())
            heapq.heappush(self._heap, timer)
            if self._autojump and self._jumper is None:
                self._jumper = threading.Thread(target=self._jump, name="penstock-virtual-clock", daemon=True)
                self._jumper.start()
            self._changed.notify_all()
        return timer

    def advance(self, seconds: float) -> None:
        """Move time, and run what becomes due on the way, in order, in this thread.

        What a callback sets in motion on other threads goes on there; a timer that they set afterwards counts from
        the new time. `wait_for_timers` tells when they have.

        Args:
            seconds: How far, 0 or more.
        """
        if seconds < 0:
            raise ValueError(f"advance({seconds!r}): time does not go back; give 0 or more seconds.")
        target = self._now + seconds
        while (timer := self._next(target)) is not None:
            timer.fire()
        with self._changed:
            self._now = max(self._now, target)

    def wait_for_timers(self, count: int = 1, timeout: float = 5.0) -> list[float]:
        """Block until at least so many timers are set; for a test that is about to `advance`.

        Args:
            count: How many.
            timeout: Real seconds to wait at most.

        Returns:
            How many virtual seconds from now each is due, soonest first.

        Raises:
            TimeoutError: If there are not that many in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._heap) >= count, timeout):
                raise TimeoutError(f"{len(self._heap)} timer(s) set after {timeout} seconds, expected {count}.")
            return [timer.due - self._now for timer in self.timers()]

    def _next(self, until: float) -> _Timer | None:
        """Take the next timer that is due until then, and let it be that time."""
        with self._changed:
            if not self._heap or self._heap[0].due > until:
                return None
            timer = heapq.heappop(self._heap)
            self._now = max(self._now, timer.due)
            return timer

    def timers(self) -> list[_Timer]:
        """The timers that are still to come."""
        with self._changed:
            return sorted(self._heap)

    def forget(self, timer: _Timer) -> None:
        """Take a timer off, if it is still to come."""
        with self._changed:
            if timer in self._heap:
                self._heap.remove(timer)
                heapq.heapify(self._heap)
                self._changed.notify_all()

    def _jump(self) -> None:
        """Serve the timers until there are none left; the next one starts another thread."""
        serve_timers_here()
        while True:
            with self._changed:
                if not self._heap:
                    self._jumper = None
                    return
                soonest = self._heap[0]
            if not self._is_still(soonest):
                with self._changed:
                    self._changed.wait(_LOOK_AGAIN)
                continue
            if (timer := self._next(soonest.due)) is not None:
                timer.fire()

    def _is_still(self, soonest: _Timer) -> bool:
        first = _look(self)
        if first is None:
            return False
        _let_turn({timer.loop for timer in self.timers()})
        with self._changed:
            return _look(self) == first and bool(self._heap) and self._heap[0] is soonest


class _Timer:
    """Something that will happen later."""

    __slots__ = ("_callback", "_clock", "_order", "due", "loop", "run")

    def __init__(
        self,
        clock: VirtualClock,
        due: float,
        order: int,
        callback: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None,
        run: Run | None,
    ) -> None:
        self._clock = clock
        self.due: float = due
        self._order = order
        self._callback: Callable[[], None] | None = callback
        self.loop: asyncio.AbstractEventLoop | None = loop
        self.run: Run | None = run

    def __lt__(self, other: _Timer) -> bool:
        return (self.due, self._order) < (other.due, other._order)

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def cancel(self) -> None:
        self._callback = None
        self._clock.forget(self)


def _look(clock: VirtualClock) -> _Picture | None:
    """What every live run rests on; None if one of them does not rest."""
    picture: _Picture = []
    runs: list[Run] = [run for engine in engines_on(clock) for run in tuple(engine.live)]
    # A task that was called outside of any flow is listed nowhere; one with a deadline is known by its timer.
    runs.extend(timer.run for timer in clock.timers() if timer.run is not None and not timer.run.is_final)
    for run in runs:
        signals = run.rests_on
        if run.is_final or not signals or any(signal.done for signal in signals):
            return None
        picture.append((run.key, tuple(map(id, signals))))
        if isinstance(run, FlowRun):
            runs.extend(tuple(run.live))
    return sorted(picture)


def _let_turn(loops: Iterable[asyncio.AbstractEventLoop | None]) -> None:
    """Let loops turn, so that coroutines which are about to set a timer can."""
    for loop in loops:
        if loop is None:
            continue
        for _ in range(_TURNS):
            turned = threading.Event()
            try:
                loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop was closed: nothing on it will happen any more
                break
            while not turned.wait(_LOOK_AGAIN):
                if loop in stopped_loops or loop.is_closed():
                    break
