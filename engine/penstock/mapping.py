"""One task over many arguments."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sized
from contextvars import copy_context
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.annotations import AllowFailure, Quote, Unmapped
from penstock.calls import gathering, submit_task
from penstock.context import current_run
from penstock.errors import ConfigurationError, MappingLengthMismatch, MappingMissingIterable
from penstock.futures import Arrival, Future, FutureList
from penstock.inputs import find_inputs
from penstock.ports import Work
from penstock.schedule import BatchSize
from penstock.signals import wait_in_loop
from penstock.waiting import block

if TYPE_CHECKING:
    from penstock.tasks import Task

__all__ = ("MapIterator", "map_task")

R = TypeVar("R")


def map_task(
    task: Task[..., R],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    wait_for: Iterable[Any] | None,
    batch_size: BatchSize | None,
) -> FutureList[R]:
    """Submit a task once for each item."""
    arguments = _Arguments(task, args, kwargs)
    arguments.check_lengths()
    if checked_batch_size(batch_size, f"{task}.map") is not None:
        arguments.shared = replace(arguments.shared or task.work, batch_size=batch_size)
    waits = list(wait_for) if wait_for is not None else None
    context = copy_context()
    with gathering(arguments.shared or task.work):
        return FutureList(
            submit_task(task, item_args, item_kwargs, waits, arguments.shared, context)
            for item_args, item_kwargs in arguments
        )


def checked_batch_size(size: object, owner: object) -> BatchSize | None:
    """Refuse a batch size that cannot work."""
    if size is None:
        return None
    if size == "auto":
        return "auto"
    if isinstance(size, int) and size >= 1:
        return size
    raise ConfigurationError(f'{owner}: batch_size={size!r}; give a number of 1 or more, or "auto".')


class _Slot:
    """One argument of a map: the same for every run, or one item for each."""

    def __init__(self, value: Any) -> None:
        mark = value if isinstance(value, AllowFailure | Quote) else None
        inner = mark.value if mark is not None else value
        if isinstance(inner, Future):
            inner = inner.result()
        self.mapped = isinstance(inner, Iterable) and not isinstance(inner, _WHOLE)
        self.value: Any = inner.value if isinstance(inner, Unmapped) else inner
        if mark is not None and not self.mapped:
            self.value = mark
        self._mark = mark

    @cached_property
    def is_constant(self) -> bool:
        """Whether every run gets the same value, which is there already."""
        return not self.mapped and not find_inputs((self.value,), {})

    def materialise(self) -> int:
        if not isinstance(self.value, Sized):
            self.value = list(self.value)
        return len(self.value)

    def items(self) -> Iterable[Any]:
        return map(self._mark.rewrap, self.value) if self._mark is not None else self.value


_WHOLE = (str, bytes, bytearray, io.IOBase, Unmapped)
"""Iterables that are single values to a map."""


class _Arguments:
    """The arguments of a map, sorted into what every run gets and what each run gets one item of.

    On a remote runner what every run gets becomes part of the `Work`, which each worker receives once.
    """

    def __init__(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._task = task
        self._args = [_Slot(value) for value in args]
        self._kwargs = {name: _Slot(value) for name, value in kwargs.items()}
        if not any(slot.mapped for slot in self._slots()):
            raise MappingMissingIterable(
                f"{task}.map(...) got nothing to map over. Give at least one list or other iterable; strings count "
                "as single values."
            )
        task.signature.check(args, kwargs)
        self.shared: Work | None = None
        run = current_run.get()
        if run is not None and run.flow_run is not None and run.flow_run.runner.remote:
            self._share()

    def _slots(self) -> list[_Slot]:
        return [*self._args, *self._kwargs.values()]

    def _share(self) -> None:
        names = [self._task.signature.name_of(index) for index in range(len(self._args))]
        first = next((index for index, slot in enumerate(self._args) if slot.is_constant), len(names))
        # A positional argument can become a named one only if everything after it does.
        while None in names[first:]:
            first += 1
        named = {name: slot for name, slot in zip(names[first:], self._args[first:]) if name is not None}
        self._kwargs = {**named, **self._kwargs}
        del self._args[first:]
        constants = {name: slot.value for name, slot in self._kwargs.items() if slot.is_constant}
        self._kwargs = {name: slot for name, slot in self._kwargs.items() if name not in constants}
        if constants:
            self.shared = replace(self._task.work, constants=constants)

    def check_lengths(self) -> None:
        names = [self._task.signature.name_of(index) or f"argument {index + 1}" for index in range(len(self._args))]
        named = zip((*names, *self._kwargs), self._slots(), strict=True)
        lengths = {name: slot.materialise() for name, slot in named if slot.mapped}
        if len(set(lengths.values())) > 1:
            raise _mismatch(self._task, ", ".join(f"{name}: {length}" for name, length in lengths.items()))

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        mapped = [slot.items() for slot in self._slots() if slot.mapped]
        rows = zip(*mapped, strict=True)
        rows_are_calls = not self._kwargs and all(slot.mapped for slot in self._args)
        nothing: dict[str, Any] = {}  # one for all rows: see `states.States`
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except ValueError as error:
                raise _mismatch(self._task, str(error)) from None
            if rows_are_calls:  # the usual case, and half a microsecond less
                yield row, nothing
                continue
            items = iter(row)
            args = tuple([next(items) if slot.mapped else slot.value for slot in self._args])
            yield args, {name: next(items) if slot.mapped else slot.value for name, slot in self._kwargs.items()}


def _mismatch(task: Task[..., Any], details: str) -> MappingLengthMismatch:
    return MappingLengthMismatch(
        f"{task}.map(...) got iterables of different lengths ({details}). Wrap what every run shall get as a whole in "
        "unmapped(...)."
    )


class MapIterator(Generic[R]):
    """A map over iterables of any length; see `Task.map_iter`."""

    def __init__(
        self, task: Task[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any], window: int, ordered: bool
    ) -> None:
        if window < 1:
            raise ConfigurationError(f"{task}.map_iter(window={window!r}): the window holds at least 1 run.")
        self._task = task
        self._arguments = _Arguments(task, args, kwargs)
        self._rows = iter(self._arguments)
        self._window = window
        self._ordered = ordered
        # Runs that were submitted and not consumed, in order of submission; and, if order does not matter, those of
        # them that have ended, in order of arrival.
        self._held: dict[Future[R], None] = {}
        self._ended: deque[Future[R]] = deque()
        self._arrival = Arrival(self._held)

    def __iter__(self) -> Iterator[R]:
        try:
            while self._fill():
                while (future := self._take()) is None:
                    block(self._arrival)
                yield future.result()
        finally:
            self._stop()

    async def __aiter__(self) -> AsyncGenerator[R, None]:
        try:
            while self._fill():
                while (future := self._take()) is None:
                    await wait_in_loop(self._arrival)
                yield await future
        finally:
            self._stop()

    def _fill(self) -> bool:
        """Submit until the window is full; False when nothing is left."""
        while len(self._held) < self._window:
            try:
                args, kwargs = next(self._rows)
            except StopIteration:
                break
            future = submit_task(self._task, args, kwargs, None, self._arguments.shared)
            self._held[future] = None
            future.on_done(self._arrive)
        return bool(self._held)

    def _arrive(self, future: Future[Any]) -> None:
        if not self._ordered:
            self._ended.append(future)
        self._arrival.complete()

    def _take(self) -> Future[R] | None:
        """The next future to consume, or None, with a new arrival signal to wait for."""
        self._arrival = Arrival(self._held)
        if self._ordered:
            first = next(iter(self._held))
            future = first if first.done else None
        else:
            future = self._ended.popleft() if self._ended else None
        if future is not None:
            del self._held[future]
        return future

    def _stop(self) -> None:
        """The consumer has left: what it will never ask for need not go on."""
        for future in self._held:
            future.look()
            future.cancel()
        self._held.clear()
