"""Getting rid of results: what expired, what dead writers left, what is old, what belongs to a deleted run.

Between looking at a result and deleting it, another writer may put a fresh one under its key; that one is deleted with
it. Keep lifetimes well above a moment, and a cache merely computes it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from penstock.errors import ConfigurationError, ResultError, ResultMissing
from penstock_results.naming import check_prefix

if TYPE_CHECKING:
    from uuid import UUID

    from penstock_results.store import ResultInfo, ResultStore

__all__ = ("Housekeeping", "Swept")


@dataclass(frozen=True, slots=True)
class Swept:
    """What `Housekeeping.gc` did, or would do.

    Attributes:
        expired: The keys of results that have expired.
        orphans: What writers that died left behind, as the place names it.
        damaged: The keys of blobs that are no results; they stay, for somebody to look at.
        freed: How many bytes the expired results took.
        dry_run: Whether nothing was deleted.
    """

    expired: tuple[str, ...]
    orphans: tuple[str, ...]
    damaged: tuple[str, ...]
    freed: int
    dry_run: bool


class Housekeeping:
    """The part of a `ResultStore` that gets rid of results."""

    def gc(self, *, prefix: str = "", orphan_age: timedelta = timedelta(hours=1), dry_run: bool = False) -> Swept:
        """Delete the results that have expired, and what writers that died left behind.

        Args:
            prefix: Only results whose keys start like this.
            orphan_age: How long an unfinished write must have been silent to count as dead.
            dry_run: Only say what would be deleted.

        Raises:
            ConfigurationError: If no key can start with the prefix.
            ResultError: If the place failed.
        """
        store = cast("ResultStore", self)
        now = store.clock.time()
        infos, damaged = _inspect(store, prefix)
        expired = [info for info in infos if info.expires is not None and info.expires <= now]
        try:
            orphans = list(store.blobs.orphans(now - orphan_age.total_seconds()))
            if not dry_run:
                for orphan in orphans:
                    store.blobs.sweep(orphan)
        except OSError as error:
            raise ResultError(f"{store!r} could not be cleaned of what dead writers left: {error}") from error
        keys = [info.key for info in expired]
        if not dry_run:
            _delete(store, keys)
        return Swept(tuple(keys), tuple(orphans), tuple(damaged), sum(info.stored for info in expired), dry_run)

    def keep_last(self, count: int, *, prefix: str, dry_run: bool = False) -> list[str]:
        """Delete all but the newest results.

        Args:
            count: How many results stay.
            prefix: Only results whose keys start like this count.
            dry_run: Only say what would be deleted.

        Returns:
            The keys that were or would be deleted, oldest first.

        Raises:
            ConfigurationError: If the count is negative or no key can start with the prefix.
            ResultError: If the place failed.
        """
        store = cast("ResultStore", self)
        if count < 0:
            raise ConfigurationError(f"keep_last cannot keep {count} results: use 0 or more")
        infos, _ = _inspect(store, prefix)
        infos.sort(key=lambda info: (info.created, info.key))
        doomed = [info.key for info in infos[: max(0, len(infos) - count)]]
        if not dry_run:
            _delete(store, doomed)
        return doomed

    def delete_prefix(self, prefix: str, *, dry_run: bool = False) -> list[str]:
        """Delete all results whose keys start with a prefix, such as ``"<run id>/"``.

        Args:
            prefix: The beginning of the keys; not empty.
            dry_run: Only say what would be deleted.

        Returns:
            The keys that were or would be deleted.

        Raises:
            ConfigurationError: If the prefix is empty or no key can start with it.
            ResultError: If the place failed.
        """
        store = cast("ResultStore", self)
        if not check_prefix(prefix):
            raise ConfigurationError(
                "delete_prefix needs a prefix: an empty one would delete every result of the store"
            )
        doomed = store.keys(prefix)
        if not dry_run:
            _delete(store, doomed)
        return doomed

    def delete_results(self, run_id: UUID | str, *, dry_run: bool = False) -> list[str]:
        """Delete the results of a run: its own, and if it is a flow run those of the task runs in it.

        Results that later runs have found in the cache are deleted too; they are computed again when next asked for.

        Args:
            run_id: The id of a flow run or task run.
            dry_run: Only say what would be deleted.

        Returns:
            The keys that were or would be deleted, sorted.

        Raises:
            ResultError: If the place failed.
        """
        store = cast("ResultStore", self)
        wanted = str(run_id)
        infos, _ = _inspect(store, "")
        doomed = [info.key for info in infos if wanted in (info.provenance.get("run"), info.provenance.get("flow_run"))]
        if not dry_run:
            _delete(store, doomed)
        return doomed


def _inspect(store: ResultStore, prefix: str) -> tuple[list[ResultInfo], list[str]]:
    """Read the heads of all results; what vanishes meanwhile is left out."""
    infos: list[ResultInfo] = []
    damaged: list[str] = []
    for key in store.keys(prefix):
        try:
            infos.append(store.inspect(key))
        except ResultMissing:
            continue
        except ResultError as error:
            if isinstance(error.__cause__, OSError):
                raise
            damaged.append(key)
    return infos, damaged


def _delete(store: ResultStore, keys: list[str]) -> None:
    for key in keys:
        try:
            store.delete(key)
        except ResultMissing:  # somebody else was faster
            continue
