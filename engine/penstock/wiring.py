"""The defaults that lie outside the engine, each imported when it is first needed.

The engine knows the protocols of `penstock.ports`; this is the one place that knows who meets them by default.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from penstock.errors import ConfigurationError
from penstock.ports import Runner
from penstock.settings import home, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.identity import Kept
    from penstock_history.history import History
    from penstock_history.resuming.frontier import Frontier
    from penstock_results.claims import Claims
    from penstock_results.locks import SingleFlight
    from penstock_results.owners import Owner
    from penstock_results.store import ResultStore

__all__ = (
    "as_runner",
    "default_history",
    "default_runner",
    "make_frontier",
    "open_history",
    "open_store",
    "single_flight",
    "this_process",
)


def default_runner() -> Runner:
    """The runner of whoever names none."""
    from penstock_runners.threads import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner()


def as_runner(given: Runner | type[Runner] | None, asked: str) -> Runner | None:
    """The runner that an option names: one, or the class of one.

    Args:
        given: What the option says.
        asked: The option as the user wrote it, for the error.

    Raises:
        ConfigurationError: If it is neither.
    """
    runner = given() if isinstance(given, type) else given
    if runner is not None and not hasattr(runner, "submit"):
        raise ConfigurationError(f"{asked} is no task runner: give one, as ThreadPoolTaskRunner() of penstock.runners.")
    return runner


def open_history(where: Any) -> History | None:
    """The history that an engine's option names.

    Args:
        where: A `History`, a URL or path, None for none, or ``"auto"`` for what ``PENSTOCK_HISTORY`` names.

    Raises:
        ConfigurationError: If it is something else.
    """
    if where == "auto":
        where = settings("history", str, None)
    if where is None or where == "none":
        return None
    from penstock_history.history import History

    if isinstance(where, History):
        return where
    if isinstance(where, str | os.PathLike):
        return History(os.fspath(where))
    raise ConfigurationError(f"history={where!r}: give a History, a URL or a path, or None for no history.")


def default_history() -> History | None:
    """The history of programs that make no engine: a file in `home`, unless the settings say otherwise.

    A test suite is no such program: under pytest there is a history only where one is named.
    """
    named = settings("history", str, None)
    if named is None and not os.environ.get("PYTEST_VERSION"):
        named = os.fspath(home() / "history.db")
    return open_history(named)


def open_store(where: Any) -> ResultStore:
    """The result store that an option names.

    Args:
        where: A store, a URL or path, or None for ``PENSTOCK_RESULTS`` or a folder in `home`.

    Raises:
        ConfigurationError: If it is something else.
    """
    from penstock_results.store import ResultStore

    if isinstance(where, ResultStore):
        return where
    if where is None:
        return _store_at(settings("results", str, None) or str(home() / "results"))
    if isinstance(where, str | os.PathLike):
        return _store_at(os.fspath(where))
    raise ConfigurationError(f"result_storage={where!r}: give a ResultStore, a URL or a path.")


@lru_cache(maxsize=64)
def _store_at(url: str) -> ResultStore:
    from penstock_results.store import ResultStore

    return ResultStore(url)


def make_frontier(attempts: Sequence[Sequence[Kept]], outer: Frontier | None, counted: bool) -> Frontier:
    """What a flow run that tries again need not do again.

    Args:
        attempts: What its attempts have kept, the latest first.
        outer: What is known of the flow run around, or of the one that this one continues.
        counted: Whether the runs inside know their positions.
    """
    from penstock_history.resuming.frontier import Frontier, whatever_the_order

    return Frontier(attempts if counted else map(whatever_the_order, attempts), outer=outer)


@lru_cache(maxsize=64)
def single_flight(store: ResultStore) -> SingleFlight:
    """What lets one of all callers of a key do the work, for everybody who shares the store."""
    from penstock_results.locks import SingleFlight

    return SingleFlight(_claims_beside(store), lease=settings("cache_lease_seconds", float, 30.0))


def this_process() -> Owner:
    """What claims of this process name as their owner."""
    from penstock_results.owners import this_owner

    return this_owner()


def _claims_beside(store: ResultStore) -> Claims:
    """Claims lie in the store, under a name that no key can have."""
    from penstock_results.blobs import BUCKETS, local_path
    from penstock_results.claims import BucketClaims, DirectoryClaims, FsspecClaims, MemoryClaims

    path = local_path(store.url)
    if path is not None:
        return DirectoryClaims(f"{path}/.claims")
    if store.url.startswith("memory:"):
        return MemoryClaims()
    scheme, _, place = store.url.partition("://")
    if scheme in BUCKETS:
        from penstock_results.s3 import connect_s3

        return BucketClaims(connect_s3(store.storage_options), f"{place}/.claims")
    from fsspec.core import url_to_fs

    filesystem, root = url_to_fs(store.url, **store.storage_options)
    return FsspecClaims(filesystem, f"{root}/.claims")
