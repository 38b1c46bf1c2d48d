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
) -> Callable[Concatenate[AsyncResultStore, _P], Awaitable[_T]]:
    """Make the awaitable twin of a method."""

    @wraps(method)
    async def twin(self: AsyncResultStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        import anyio.to_thread

        return await anyio.to_thread.run_sync(partial(method, self.store, *args, **kwargs))

    return twin


class AsyncResultStore:
    """A result store whose methods are awaited; `ResultStore.aio` makes it.

    Attributes:
        store: The store itself.
    """

    def __init__(self, store: ResultStore) -> None:
        self.store = store

    write = _twin(ResultStore.write)
    read = _twin(ResultStore.read)
    find = _twin(ResultStore.find)
    info = _twin(ResultStore.info)
    inspect = _twin(ResultStore.inspect)
    exists = _twin(ResultStore.exists)
    delete = _twin(ResultStore.delete)
    keys = _twin(ResultStore.keys)
    gc = _twin(ResultStore.gc)
    keep_last = _twin(ResultStore.keep_last)
    delete_prefix = _twin(ResultStore.delete_prefix)
    delete_results = _twin(ResultStore.delete_results)
