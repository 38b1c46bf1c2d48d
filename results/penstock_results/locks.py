"""Single flight: of all who want the value of one key, one makes it and the others wait for it.

::

    claim = flight.begin(key)              None: somebody else is at it
    if claim is None: flight.wait(key)     then look into the store, and begin again if nothing is there
    with claim: ...                        look into the store once more, make the value, claim.check(), publish

**Taking a claim.** Whoever finds no live record of the key writes one of its own, under a name that nobody else uses,
and then looks again: the claim stands if there is no other. Of two who write at the same time, the later to write
sees the earlier one's record, so both cannot stand; to make sure that one does, the one whose name comes first looks
a few times more while the others withdraw. This needs nothing of the store but listings that show what was written.

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
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self
from uuid import uuid4

from penstock.brief_threads import BriefThreads
from penstock.clock import SystemClock
from penstock.errors import ConfigurationError, ResultError
from penstock.ports import Clock, Timer
from penstock_results.claims import Claims
from penstock_results.owners import Owner, Record, number_of, owner_is_dead, this_owner

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


_LOOKS = 8
"""How often the first of several candidates looks before it gives way too. A rival needs one look and one removal to
withdraw; whatever the store's latency, this is as long as eight."""


class Claim:
    """The right to make the value of one key, for as long as it is renewed; usable as a context manager.

    Attributes:
        key: What was claimed.
        number: One more than that of the claim it was inherited from; 1 if there was none.
    """

    def __init__(self, flight: SingleFlight, key: str, record: Record, renewed: float) -> None:
        self.key = key
        self.number: int = record.number
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
        late = self.lost
        if not late and self._record.name in self._flight.claims.names(self.key):
            return
        self._flight._end(self)
        in_time = f"renewed for its lease of {self._record.lease} s: the process slept or could not reach the store"
        there = "found where it was written: somebody took it over, or that place does not keep what is written there"
        raise ClaimLost(
            f"the claim on {self.key} was not {in_time if late else there}. The value was not published; another "
            "caller makes it"
        ) from self._trouble

    def release(self) -> None:
        """Give the claim back and wake who waits for it; the second time, do nothing."""
        if self._ended:
            return
        try:
            self._flight.claims.remove(self.key, self._record.name)
        finally:
            self._flight._end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _renew(self) -> None:
        """Rewrite the record. An error is kept for `check`: the next renewal may still come in time."""
        now = self._flight.clock.monotonic()
        record = replace(self._record, beat=self._record.beat + 1)
        try:
            kept = not self.lost and self._flight.claims.replace(self.key, self._record.name, record.encode())
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
    records: dict[str, bytes] = field(default_factory=dict[str, bytes])
    unchanged_since: float = 0.0

    def observe(self, records: dict[str, bytes], now: float) -> float:
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

    def owners(self, key: str) -> set[Owner]:
        """The processes that have claims on the key, as far as what they wrote can be read."""
        records = map(Record.decode, self._read_all(key).values())
        return {record.owner for record in records if record is not None}

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

    def _take(self, key: str, is_dead: Callable[[bytes], bool]) -> Claim | None:
        dead = self._read_all(key)
        if not all(map(is_dead, dead.values())):
            return None
        renewed, stands = self.clock.monotonic(), False
        record = Record(max(map(number_of, dead), default=0) + 1, uuid4().hex, this_owner(), self._lease)
        try:
            self.claims.create(key, record.name, record.encode())
            stands = self._stands(key, record.name, dead)
        finally:
            for name in dead if stands else (record.name,):
                self.claims.remove(key, name)
        return Claim(self, key, record, renewed) if stands else None

    def _stands(self, key: str, name: str, dead: dict[str, bytes]) -> bool:
        """The second look of whoever wrote a record; see the module's docstring."""
        for _ in range(_LOOKS):
            rivals = [other for other in self.claims.names(key) if other != name and other not in dead]
            if not rivals:
                return True
            if min(rivals) < name:
                return False
        return False

    def _read_all(self, key: str) -> dict[str, bytes]:
        contents = {name: self.claims.read(key, name) for name in self.claims.names(key)}
        return {name: content for name, content in contents.items() if content is not None}

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
        if unchanged <= self._lease_of(records) and not all(map(owner_is_dead, records.values())):
            return False
        if records:
            claim = self._take(key, lambda content: content in records.values())
            if claim is not None:
                self.claims.remove(key, claim._record.name)
        return True

    def _lease_of(self, records: dict[str, bytes]) -> float:
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

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._renewal = None
        self._threads = BriefThreads("penstock-claims", _THREADS)

    def _notice_fork(self) -> None:
        """Start afresh in a forked child: the claims and waiters in its memory are its parent's."""
        if self._pid != os.getpid():
            self._reset()
