"""The asynchronous face of the result store: one rule, applied to every method.

A twin runs the blocking method on a worker thread of anyio's. When the caller is cancelled, it first finishes: a
write that was begun is either published or cleaned up, never left behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, TypeVar

from penstock_results.store import ResultStore

__all__ = ("AsyncResultStore",)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _twin(
    method: Callable[Concatenate[ResultStore, _P], _T],
) -> Callable[[object], Callable[Concatenate[AsyncResultStore, _P], Awaitable[_T]]]:
    """Put the awaitable twin of a method, signature and docstring included, in the place of what is decorated."""

    @wraps(method)
    async def twin(self: AsyncResultStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        import anyio.to_thread

        return await anyio.to_thread.run_sync(partial(method, self.store, *args, **kwargs))

    return lambda _: twin


class AsyncResultStore:
    """A result store whose methods are awaited; `ResultStore.aio` makes it.

    Attributes:
        store: The store itself.
    """

    def __init__(self, store: ResultStore) -> None:
        self.store = store

    @_twin(ResultStore.write)
    def write(self) -> None:
        """See `ResultStore.write`."""

    @_twin(ResultStore.read)
    def read(self) -> None:
        """See `ResultStore.read`."""

    @_twin(ResultStore.find)
    def find(self) -> None:
        """See `ResultStore.find`."""

    @_twin(ResultStore.info)
    def info(self) -> None:
        """See `ResultStore.info`."""

    @_twin(ResultStore.inspect)
    def inspect(self) -> None:
        """See `ResultStore.inspect`."""

    @_twin(ResultStore.exists)
    def exists(self) -> None:
        """See `ResultStore.exists`."""

    @_twin(ResultStore.delete)
    def delete(self) -> None:
        """See `ResultStore.delete`."""

    @_twin(ResultStore.keys)
    def keys(self) -> None:
        """See `ResultStore.keys`."""

    @_twin(ResultStore.gc)
    def gc(self) -> None:
        """See `ResultStore.gc`."""

    @_twin(ResultStore.keep_last)
    def keep_last(self) -> None:
        """See `ResultStore.keep_last`."""

    @_twin(ResultStore.delete_prefix)
    def delete_prefix(self) -> None:
        """See `ResultStore.delete_prefix`."""

    @_twin(ResultStore.delete_results)
    def delete_results(self) -> None:
        """See `ResultStore.delete_results`."""
