"""Keeping results: persistence, caching and single flight, as steps in the life of a run.

Most runs keep nothing and pay one look at an attribute. One that keeps has a `Keeper`: it looks for a result before
the first attempt, makes sure that nobody else is at work on the same key, and writes the value before the run is
COMPLETED. A key is computed only if there is a store in which it could hit. Inside a flow that continues another, or
tries again, the results of what has completed there come first: they count whatever the policy says.
"""

from __future__ import annotations

import sys
import threading  # noqa: TID251 (stores are asked by many threads)
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from penstock.cache_policies import DEFAULT, CacheKeyFn, CachePolicy, CacheRequest
from penstock.edges import drawn, holder_of, loop_of
from penstock.errors import ConfigurationError, PenstockError, ResultError, ResultMissing, UnhashableInput
from penstock.identity import Kept, code_of, identity_of, path_of
from penstock.logging import run_logger
from penstock.ports import Host, Reference
from penstock.records import Run
from penstock.settings import settings, truth
from penstock.signals import Signal
from penstock.task_runs import TaskRun
from penstock.waiting import wait_for
from penstock.wiring import open_store, single_flight

if TYPE_CHECKING:
    from penstock_results.locks import Claim, Subscription
    from penstock_results.references import ResultReference
    from penstock_results.store import ResultStore

__all__ = ("LARGE", "CacheCounts", "Keeper", "Keeping", "cache_request", "size_of")


@dataclass(slots=True)
class CacheCounts:
    """How often a key was found, and how often not."""

    hits: int = 0
    misses: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits in all look-ups, between 0 and 1; 0 if there were none."""
        total = self.hits + self.misses
        return self.hits / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a flow's or task's options say about its results.

    Attributes:
        persist: Whether to store them; None leaves it to the flow around, and then to the settings.
        policy: What a key is made of, or None where nothing was said.
        expiration: How long a stored result is good for.
        refresh: Whether to execute and store anew although there is a result.
        storage: Where to store: a `ResultStore`, a URL or path, or None for the flow's or the engine's.
        key_template: A template for the key, over ``parameters``, ``task_run`` and ``flow_run``.
        serializer: The serializer's name, or None for the store's choice.
        in_memory: Whether the value of a stored result stays in memory, too.
    """

    persist: bool | None = None
    policy: CachePolicy | None = None
    expiration: timedelta | None = None
    refresh: bool = False
    storage: Any = None
    key_template: str | None = None
    serializer: str | None = None
    in_memory: bool = True

    @classmethod
    def make(cls, options: Mapping[str, Any], owner: object) -> Keeping:
        """Read the options of a decorator.

        Raises:
            ConfigurationError: If two of them contradict each other.
        """
        policy, key_fn = options.get("cache_policy"), options.get("cache_key_fn")
        if policy is not None and key_fn is not None:
            raise ConfigurationError(f"{owner}: give cache_policy or cache_key_fn, not both.")
        if policy is not None and not isinstance(policy, CachePolicy):
            raise ConfigurationError(f"{owner}: cache_policy={policy!r}; see penstock.cache_policies.")
        policy = CacheKeyFn(key_fn) if key_fn is not None else policy
        persist = options.get("persist_result")
        wants = ("result_storage", "result_storage_key", "result_serializer")
        if persist is None and ((policy is not None and not policy.is_none) or any(options.get(n) for n in wants)):
            persist = True
        if persist is False and policy is not None and not policy.is_none:
            raise ConfigurationError(f"{owner}: persist_result=False and a cache policy: a cache has to be stored.")
        refresh = options.get("refresh_cache")
        in_memory = options.get("cache_result_in_memory")
        return cls(
            persist,
            policy,
            options.get("cache_expiration"),
            settings("refresh_cache", truth, False) if refresh is None else refresh,
            options.get("result_storage"),
            options.get("result_storage_key"),
            options.get("result_serializer"),
            True if in_memory is None else in_memory,
        )


@dataclass(slots=True)
class Keeper:
    """Keeps one run's result.

    Attributes:
        run: The run.
        key: Where the result lies or will lie; None for a key that the store makes.
        components: What the key is made of, for `explain_cache`.
        claim: The right to make the value of the key, while the run has it.
        finding: Where a result was found, in words.
    """

    run: Run
    key: str | None = None
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    claim: Claim | None = None
    finding: str = "The result was stored before."
    _code: str | None = None
    _left: bool = False

    @property
    def keeping(self) -> Keeping:
        """What the run's options say."""
        return self.run.definition.keeping

    @property
    def store(self) -> ResultStore:
        """Where the result is kept: what the task says, or its cache policy, its flow, or its engine."""
        where, policy = self.keeping.storage, self.keeping.policy
        if where is None and policy is not None:
            where = policy.key_storage
        return open_store(self.run.results if where is None else where)

    async def find(self, host: Host) -> tuple[bool, Any]:
        """Look for a result, and if there is none make sure to be the only one who makes it.

        Returns:
            Whether there is one, and its value.
        """
        if self.run.around is not None and self.run.around.tells_apart:
            found, value = await host.offload(self.run, self._recall)
            if found:
                return True, value
        if not isinstance(self.run, TaskRun) or self._is_keyless:
            return False, None
        while True:
            found, value = await host.offload(self.run, self._look_or_begin)
            if self.key is None:
                return False, None
            if found or self.claim is not None:
                self._count(found)
                return found, value
            if self.run.engine.driver is not None and await host.offload(self.run, self._is_behind_this_call):
                self._count(False)
                return False, None
            await self._wait_for_owner(host)

    def _look_or_begin(self) -> tuple[bool, Any]:
        """Look, and if there is nothing claim the key; whoever had it until then may just have stored a value."""
        if self.key is None:
            self.key = self._key_or_none()
        if self.key is None:
            return False, None
        found, value = self._look()
        return self._look() if not found and self._begin() else (found, value)

    def _recall(self) -> tuple[bool, Any]:
        """Look for what the run has come to before, in a flow run that is continued or in an earlier attempt."""
        run, around = self.run, self.run.around
        identity = identity_of(run)
        try:
            self._code = code_of(run.definition)
        except UnhashableInput:
            return False, None
        past = around.past if around is not None else None
        reference = past.find(identity, self._code, path_of(run)) if past is not None else None
        if reference is None:
            return False, None
        self.finding = "It had completed before the flow was begun again."
        return self._read(reference)

    def _begin(self) -> bool:
        with self._at_the_store():
            self.claim = single_flight(self.store).begin(cast(str, self.key))
        if self.claim is None:
            return False
        _owners[self._place] = self.run
        # A coroutine whose loop does not turn can make no value, and whoever holds the loop up may wait for the key.
        if self._left or holder_of(loop_of(self.run)) is not None:
            self.let_go()
        return True

    def _is_behind_this_call(self) -> bool:
        """Whether the key belongs to a run of the driver's.

        That one may be waiting for a worker, for this one even: it may be the next call of the same batch. Nobody here
        can know, so a run inside a call does not wait for it, and the value is made twice.
        """
        owner = _owners.get(self._place)
        if owner is not None:  # a cluster may have its workers in the driver's process
            return owner.engine.driver is None
        with self._at_the_store():
            return self.run.engine.driver in single_flight(self.store).owners(cast(str, self.key))

    @contextmanager
    def _at_the_store(self) -> Generator[None]:
        """Let what goes wrong with a claim be the store's failure; where it lies, anything can be raised."""
        try:
            yield
        except PenstockError:
            raise
        except Exception as error:
            raise ResultError(
                f"{self.store!r} could not be used: {type(error).__name__}: {error}. Look at where it lies, and at its "
                "storage_options and credentials if it needs any."
            ) from error

    @property
    def _place(self) -> tuple[str, str]:
        return self.store.url, cast(str, self.key)

    async def _wait_for_owner(self, host: Host) -> None:
        """Wait until the key is free. An owner in this process is known, so a run that waits for itself is told.

        Inside a call on a worker, wait a moment: the next one who has the key may be behind this call.
        """
        free, subscription = await host.offload(self.run, self._subscribe)
        engine = self.run.engine
        timer = None if engine.driver is None else engine.clock.call_later(_MOMENT, free.complete)
        try:
            with drawn(self.run, free):
                cast(TaskRun, self.run).leave_anteroom()  # or two programs with the same work would not share it
                await wait_for(self.run, host, free)
        finally:
            subscription.cancel()
            if timer is not None:
                timer.cancel()

    def _subscribe(self) -> tuple[Signal, Subscription]:
        free = _KeyIsFree(self._place)
        return free, single_flight(self.store).subscribe(cast(str, self.key), free.complete)

    def make_key(self) -> str | None:
        """Compute the key of the run's result; None if its policy gives none.

        Raises:
            UnhashableInput: If a value has no canonical form; the message names the argument.
        """
        run = cast(TaskRun, self.run)
        keeping = self.keeping
        if keeping.key_template is not None:
            from penstock import runtime

            facts = {"parameters": run.parameters, "flow_run": runtime.flow_run, "task_run": runtime.task_run}
            return run.call_in_context(partial(keeping.key_template.format, **{**run.parameters, **facts}))
        if self._is_keyless or settings("disable_caching", truth, False):
            return None
        key, self.components = self._policy.evaluate(cache_request(run))
        return key

    @property
    def _policy(self) -> CachePolicy:
        return DEFAULT if self.keeping.policy is None else self.keeping.policy

    @property
    def _is_keyless(self) -> bool:
        """Whether there is no key whatever the call is, so that nothing has to be asked for."""
        return self.keeping.key_template is None and self._policy.is_none

    def _key_or_none(self) -> str | None:
        try:
            return self.make_key()
        except UnhashableInput as error:
            if settings("strict_cache_keys", truth, False):
                raise
            _warn_once(cast(TaskRun, self.run), error)
            return None

    def _look(self) -> tuple[bool, Any]:
        return (False, None) if self.keeping.refresh else self._read(cast(str, self.key))

    def _read(self, where: str | ResultReference) -> tuple[bool, Any]:
        store = self.store
        if not isinstance(where, str) and where.url != store.url:
            store = open_store(where.url)
        try:
            with self._room_to_load(store, where if isinstance(where, str) else where.key):
                value, reference = store.find(where)
        except ResultMissing as error:
            if not isinstance(where, str):
                run_logger(self.run).warning("The run had completed, and is executed again: %s.", error)
            return False, None
        except ResultError as error:
            run_logger(self.run).warning("The stored result cannot be used and is made anew: %s", error)
            return False, None
        return True, self._hold(value, reference, found=True)

    def _room_to_load(self, store: ResultStore, key: str) -> AbstractContextManager[object]:
        """Where values shall not stay in memory, let large ones be there one after the other, and not all at once.

        Stores are asked by many threads at a time. Where values do stay, they need the memory in any case.
        """
        if self.keeping.in_memory and not self.run.engine.spill:
            return nullcontext()
        return _LARGE_LOADS if store.info(key).stored > LARGE else nullcontext()

    def _hold(self, value: Any, reference: ResultReference, *, found: bool) -> Any:
        """Note where the value lies; gives what the run's state shall hold."""
        run, around = self.run, self.run.around
        run.kept = Kept(reference, run.identity, self._code, path_of(run), found)
        if around is not None:
            around.remember(run.kept)
        return value if self.keeping.in_memory else reference

    def _count(self, found: bool) -> None:
        run = self.run
        homes = [run.engine.cache_counts(run.definition.name), run.engine.cache]
        if run.flow_run is not None:
            homes.append(run.flow_run.cache)
        for counts in homes:
            if found:
                counts.hits += 1
            else:
                counts.misses += 1

    def keep(self, value: Any) -> Any:
        """Store the value, before anybody is told that there is one.

        Returns:
            What the run's state shall hold: the value, or a reference to it.

        Raises:
            ResultError: If it could not be stored, or another has taken over this key in the meantime.
            SerializationError: If it cannot be serialized; names the attribute path.
        """
        if isinstance(value, Reference):
            value = value.load()
        if self.claim is not None:
            with self._at_the_store():
                self.claim.check()
        run = self.run
        reference = self.store.write(
            value,
            self.key,
            serializer=self.keeping.serializer,
            expires=self.keeping.expiration,
            provenance={
                "run": str(run.id),
                "name": run.name,
                "definition": run.definition.name,
                "flow_run": str(run.flow_run.id) if run.flow_run is not None else None,
                "components": dict(self.components),
            },
        )
        return self._hold(value, reference, found=False)

    def leave(self) -> bool:
        """Say that the run needs its key no longer; one that a cancelled run is still claiming is let go of then.

        Returns:
            Whether it has the key, to be let go of.
        """
        self._left = True
        return self.claim is not None

    def let_go(self) -> None:
        """Let whoever waits for the key look again."""
        claim, self.claim = self.claim, None
        if claim is not None:
            _owners.pop(self._place, None)
            with self._at_the_store():
                claim.release()


class _KeyIsFree(Signal):
    """Happens when nobody seems to have a key any more.

    Args:
        place: The store's URL, and the key.
    """

    __slots__ = ("_place",)

    def __init__(self, place: tuple[str, str]) -> None:
        super().__init__()
        self._place = place

    def runs(self) -> Iterable[Run]:
        """Whoever has the key, which is known only a moment after it was claimed; nobody, in another process."""
        owner = _owners.get(self._place)
        return () if owner is None else (owner,)


_owners: dict[tuple[str, str], Run] = {}
"""The runs of this process that are making a value, by the store's URL and the key."""

LARGE = 1_000_000
_LARGE_LOADS = threading.BoundedSemaphore(2)
"""Bytes above which a value is large: with a smaller one on each of the threads that ask stores it makes 32 MB. And how
many large ones are loaded at a time that shall not stay in memory: one is unpacked while the next one comes."""

_MOMENT = 1.0
"""Seconds after which a run inside a call asks again who has its key; as often as a claim is looked at, in the end."""

_warned: set[tuple[str, str]] = set()


def _warn_once(run: TaskRun, error: UnhashableInput) -> None:
    mark = (run.task.name, str(error))
    if mark not in _warned:
        _warned.add(mark)
        run_logger(run).warning("%s", error)


def cache_request(run: TaskRun) -> CacheRequest:
    """What a cache policy may look at."""
    flow_run = run.flow_run
    return CacheRequest(
        task=run.task,
        inputs=run.parameters,
        flow_parameters=flow_run.parameters if flow_run is not None else None,
        flow_run_id=str(flow_run.origin) if flow_run is not None else None,
        task_run=run,
    )


def size_of(value: Any) -> int:
    """About how many bytes a value occupies: exact for arrays, frames and bytes, by its first items for a container."""
    items: Collection[Any] = ()
    if isinstance(value, list | tuple | set | frozenset):
        items = value
    elif isinstance(value, dict):
        items = value.values()
    sample = [_size_alone(item) for item in islice(items, _SAMPLE)]
    return _size_alone(value) + (sum(sample) * len(items) // len(sample) if sample else 0)


_SAMPLE = 16
"""Items of a container that are looked at, half a microsecond each."""


def _size_alone(value: Any) -> int:
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    usage = getattr(value, "memory_usage", None)
    if usage is not None and hasattr(value, "dtypes"):
        return int(usage(deep=False).sum())
    return sys.getsizeof(value)
