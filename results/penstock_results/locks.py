"""Single flight: of all who want the value of one key, one makes it and the others wait for it.

::

    claim = flight.begin(key)              None: somebody else is at it
    if claim is None: flight.wait(key)     then look into the store, and begin again if nothing is there
    with claim: ...                        look into the store once more, make the value, claim.check(), publish

**Taking a claim.** Records of a key carry numbers. Whoever finds no live record creates the next number, exclusively,
and then looks again: if there is a higher number, or a lower one that was not known to be dead, it withdraws. Two who
create different numbers at the same time cannot both pass that second look, because the later of the two creations
came before at least one of the looks. At worst both withdraw and try again.

**Keeping it.** The owner rewrites its record every third of the lease. Others never compare clocks: a record that
has not changed for a whole lease of the observer's own time is dead, and one whose process has ended on this host is
dead at once. An owner whose own clock says that it did not renew in time stops believing in its claim first.

**Waiting.** Waiters of a claim held by this process are called when it ends. For claims held elsewhere one look per
key, shared by all waiters of this process, is repeated at growing intervals.

**Fencing.** An owner that was paused for longer than its lease may wake when another has taken over. `Claim.check`
tells it, so it must be asked right before publishing. Between that answer and the publication another pause may fall;
then two whole values of one key are published, one after the other, and either is right.
"""

from __future__ import annotations

import os
import random  # noqa: TID251 (the default chance)
import threading  # noqa: TID251 (the table of keys has a lock, claims have threads, `wait` blocks its caller)
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from uuid import uuid4

from penstock.clock import SystemClock
from penstock.errors import ConfigurationError, ResultError
from penstock.ports import Clock, Timer
from penstock_results.claims import Claims
from penstock_results.owners import Record, owner_is_dead, this_owner
from penstock_results.threads import BriefThreads

__all__ = ("Claim", "ClaimLost", "SingleFlight", "Subscription")

_THREADS = 8
"""Renewals and looks at a time: at 50 ms a request they keep more than a thousand claims renewed within ten seconds,
a third of the default lease."""

_FIRST_LOOK = 0.005
_LAST_LOOK = 1.0
"""Seconds between looks at somebody else's claim: half of what was waited so far, within these bounds, so that a
waiter learns of the end at most half as late again and a long wait costs one look a second."""


class ClaimLost(ResultError):
    """The owner of a claim did not renew it in time, and somebody else may be at work; do not publish."""


class Claim:
    """The right to make the value of one key, for as long as it is renewed; usable as a context manager.

    Attributes:
        key: What was claimed.
        number: Larger than that of every claim of the key that was live when this one was taken.
    """

    def __init__(self, flight: SingleFlight, key: str, number: int, record: Record, renewed: float) -> None:
        self.key = key
        self.number = number
        self._flight = flight
        self._record = record
        self._renewed = renewed
        self._ended = False
        self._trouble: Exception | None = None

    @property
    def lost(self) -> bool:
        """Whether the claim has ended, as far as this process knows; `check` asks the store too."""
        return self._ended or self._flight.clock.monotonic() - self._renewed > self._record.lease

    def check(self) -> None:
        """Make sure that the claim still holds; to be called right before its value is published.

        Raises:
            ClaimLost: If it does not.
        """
        if not self.lost and self._is_written():
            return
        self._flight._end(self)
        raise ClaimLost(
            f"the claim on {self.key} was not renewed for its lease of {self._record.lease} s: the process was paused "
            "or could not reach the store. The value was not published; another caller makes it"
        ) from self._trouble

    def release(self) -> None:
        """Give the claim back and wake who waits for it; the second time, do nothing."""
        if self._ended:
            return
        try:
            if not self.lost:  # else the number may be another's by now
                self._flight.claims.remove(self.key, self.number)
        finally:
            self._flight._end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _is_written(self) -> bool:
        claims = self._flight.claims
        numbers = claims.numbers(self.key)
        if self.number not in numbers or max(numbers) > self.number:
            return False
        record = Record.decode(claims.read(self.key, self.number) or b"")
        return record is not None and record.token == self._record.token

    def _renew(self) -> None:
        """Rewrite the record. An error is kept for `check`: the next renewal may still come in time."""
        now = self._flight.clock.monotonic()
        record = Record(self._record.token, self._record.owner, self._record.lease, self._record.beat + 1)
        try:
            kept = not self.lost and self._flight.claims.replace(self.key, self.number, record.encode())
        except Exception as error:
            self._trouble = error
            return
        if kept:
            self._record, self._renewed = record, now
        else:
            self._flight._end(self)


class Subscription:
    """One waiter's wish to be called when a key looks free."""

    def __init__(self, flight: SingleFlight, key: str, callback: Callable[[], None]) -> None:
        self.callback = callback
        self._flight = flight
        self._key = key

    def cancel(self) -> None:
        """Forget the wish; the callback may be running already."""
        self._flight._unsubscribe(self._key, self)


@dataclass(slots=True, eq=False)
class _Watch:
    """What is known of a claim that another process holds."""

    since: float
    records: dict[int, bytes] = field(default_factory=dict[int, bytes])
    unchanged_since: float = 0.0

    def observe(self, records: dict[int, bytes], now: float) -> float:
        """Note the records that were seen, and return for how many seconds they have been so."""
        if records != self.records:
            self.records, self.unchanged_since = records, now
        return now - self.unchanged_since


@dataclass(slots=True, eq=False)
class _Place:
    """What this process knows of one key."""

    taken: bool = False
    claim: Claim | None = None
    waiters: list[Subscription] = field(default_factory=list[Subscription])
    watch: _Watch | None = None


class SingleFlight:
    """Claims on keys, for coroutines, threads, processes and machines that share a place for claims.

    Args:
        claims: Where claims are written down.
        lease: Seconds without a sign of life after which an owner counts as dead.
        clock: Whose time it is, and whose timers renew and look.
        chance: Gives numbers from 0 to 1 that keep waiters from moving in step.

    Raises:
        ConfigurationError: If the lease is not positive.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        lease: float = 30.0,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not lease > 0:
            raise ConfigurationError(f"SingleFlight(lease={lease!r}): a lease is a positive number of seconds")
        self.claims = claims
        self.clock: Clock = clock or SystemClock()
        self._lease = lease
        self._renewal: Timer | None = None
        self._chance = chance
        self._reset()

    def begin(self, key: str) -> Claim | None:
        """Try to claim a key; looks at the place for claims and does not wait.

        Args:
            key: A valid key of a store.

        Returns:
            The claim, or None if somebody else has one.
        """
        self._notice_fork()
        with self._guard:
            place = self._places.setdefault(key, _Place())
            if place.taken:
                return None
            place.taken = True
        claim = None
        try:
            claim = self._take(key, owner_is_dead)
        finally:
            self._settle(key, place, claim)
        return claim

    def subscribe(self, key: str, callback: Callable[[], None]) -> Subscription:
        """Be called once when nobody seems to have a claim on the key any more.

        Args:
            key: The key.
            callback: Called from any thread; must be short and not raise. The key may be claimed again by then.

        Returns:
            What cancels it.
        """
        self._notice_fork()
        subscription = Subscription(self, key, callback)
        with self._guard:
            place = self._places.setdefault(key, _Place())
            place.waiters.append(subscription)
            watch = None if place.taken else self._new_watch(place)
        if watch is not None:
            self._threads.run(lambda: self._look(key, watch))
        return subscription

    def wait(self, key: str, timeout: float | None = None) -> bool:
        """Block until nobody seems to have a claim on the key.

        Args:
            key: The key.
            timeout: Seconds to wait at most, or None.

        Returns:
            Whether it came to that in time.
        """
        free = threading.Event()
        subscription = self.subscribe(key, free.set)
        try:
            return free.wait(timeout)
        finally:
            subscription.cancel()

    # Taking

    def _take(self, key: str, is_dead: Callable[[int, bytes], bool]) -> Claim | None:
        dead = self._read_all(key)
        if not all(is_dead(number, content) for number, content in dead.items()):
            return None
        number, renewed = max(dead, default=0) + 1, self.clock.monotonic()
        record = Record(uuid4().hex, this_owner(), self._lease)
        if not self.claims.create(key, number, record.encode()):
            return None
        stands = False
        try:
            stands = self._stands(key, number, dead)
        finally:
            if not stands:
                self.claims.remove(key, number)
        if not stands:
            return None
        for old in dead:
            self.claims.remove(key, old)
        return Claim(self, key, number, record, renewed)

    def _read_all(self, key: str) -> dict[int, bytes]:
        contents = {number: self.claims.read(key, number) for number in self.claims.numbers(key)}
        return {number: content for number, content in contents.items() if content is not None}

    def _stands(self, key: str, number: int, dead: dict[int, bytes]) -> bool:
        """The second look of whoever created a record; see the module's docstring."""
        others = self._read_all(key)
        others.pop(number, None)
        return all(other < number and content == dead.get(other) for other, content in others.items())

    def _settle(self, key: str, place: _Place, claim: Claim | None) -> None:
        """Note how an attempt to claim went; who came to wait meanwhile waits for whoever has it."""
        with self._guard:
            place.claim, place.taken = claim, claim is not None
            watch = None
            if claim is not None:
                place.watch = None
                self._arm_renewal()
            elif place.waiters:
                watch = self._new_watch(place)
            else:
                del self._places[key]
        if watch is not None:
            self._threads.run(lambda: self._look(key, watch))

    def _end(self, claim: Claim) -> None:
        """Forget a claim of this process, and call its waiters."""
        claim._ended = True
        with self._guard:
            place = self._places.get(claim.key)
            if place is None or place.claim is not claim:
                return
            del self._places[claim.key]
        for waiter in place.waiters:
            waiter.callback()

    # Keeping

    def _arm_renewal(self) -> None:
        if self._renewal is None:
            self._renewal = self.clock.call_later(self._lease / 3, self._renew_all)

    def _renew_all(self) -> None:
        with self._guard:
            self._renewal = None
            held = [place.claim for place in self._places.values() if place.claim is not None]
            if held:
                self._arm_renewal()
        for claim in held:
            self._threads.run(claim._renew)

    # Waiting

    def _new_watch(self, place: _Place) -> _Watch | None:
        if place.watch is not None:
            return None
        place.watch = _Watch(self.clock.monotonic())
        return place.watch

    def _look(self, key: str, watch: _Watch) -> None:
        """See whether a key that others have claimed is free; if so tell its waiters, if not look again later.

        An error is the same news to a waiter as a free key: it will try to claim it and meet the error itself.
        """
        try:
            free = self._is_free(key, watch)
        except Exception:
            free = True
        with self._guard:
            place = self._places.get(key)
            if place is None or place.watch is not watch:
                return
            waiters: list[Subscription] = []
            if free:
                place.watch = None
                waiters, place.waiters = place.waiters, waiters
                if not place.taken:
                    del self._places[key]
        if not free:
            waited = self.clock.monotonic() - watch.since
            delay = min(max(_FIRST_LOOK, waited / 2), _LAST_LOOK, self._lease / 4) * (0.75 + self._chance() / 2)
            self.clock.call_later(delay, lambda: self._threads.run(lambda: self._look(key, watch)))
        for waiter in waiters:
            waiter.callback()

    def _is_free(self, key: str, watch: _Watch) -> bool:
        """Whether nobody has the key; the records of dead owners are inherited and given back on the way."""
        records = self._read_all(key)
        unchanged = watch.observe(records, self.clock.monotonic())
        if unchanged <= self._lease_of(records) and not all(map(owner_is_dead, records, records.values())):
            return False
        if records:
            claim = self._take(key, lambda number, content: records.get(number) == content)
            if claim is not None:
                self.claims.remove(key, claim.number)
        return True

    def _lease_of(self, records: dict[int, bytes]) -> float:
        known = [record.lease for content in records.values() if (record := Record.decode(content))]
        return max(known, default=self._lease)

    def _unsubscribe(self, key: str, subscription: Subscription) -> None:
        with self._guard:
            place = self._places.get(key)
            if place is None or subscription not in place.waiters:
                return
            place.waiters.remove(subscription)
            if not place.waiters:
                place.watch = None
                if not place.taken:
                    del self._places[key]

    # Forks

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._renewal = None
        self._threads = BriefThreads(_THREADS)

    def _notice_fork(self) -> None:
        """Start afresh in a forked child: the claims and waiters in its memory are its parent's."""
        if self._pid != os.getpid():
            self._reset()
