"""The defaults that lie outside the engine, each imported when it is first needed.

The engine knows the protocols of `penstock.ports`; this is the one place that knows who meets them by default.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ConfigurationError
from penstock.ports import Runner
from penstock.settings import settings

if TYPE_CHECKING:
    from penstock_results.claims import Claims
    from penstock_results.locks import SingleFlight
    from penstock_results.store import ResultStore

__all__ = ("default_runner", "home", "open_store", "single_flight")


def default_runner() -> Runner:
    """The runner of whoever names none."""
    from penstock_runners.threads import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner()


def home() -> Path:
    """Where the embedded defaults lie: ``PENSTOCK_HOME``, or the platform's folder for a program's state."""
    if given := settings("home", Path, None):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "penstock"
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/penstock").expanduser()
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "penstock"


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


@lru_cache(maxsize=64)
def single_flight(store: ResultStore) -> SingleFlight:
    """What lets one of all callers of a key do the work, for everybody who shares the store."""
    from penstock_results.locks import SingleFlight

    return SingleFlight(_claims_beside(store), lease=settings("cache_lease_seconds", float, 30.0))


def _claims_beside(store: ResultStore) -> Claims:
    """Claims lie in the store, under a name that no key can have."""
    from penstock_results.blobs import local_path
    from penstock_results.claims import DirectoryClaims, FsspecClaims, MemoryClaims

    path = local_path(store.url)
    if path is not None:
        return DirectoryClaims(f"{path}/.claims")
    if store.url.startswith("memory:"):
        return MemoryClaims()
    from fsspec.core import url_to_fs

    filesystem, root = url_to_fs(store.url, **store.storage_options)
    return FsspecClaims(filesystem, f"{root}/.claims")
