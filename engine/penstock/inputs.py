"""Futures and states among arguments: finding them, and putting values in their place.

Arguments are walked for every task, so the walk must cost nothing where there is nothing to find. Three facts make
it cheap. What a value can hold is decided by its type, once per type. The types of a container's items are collected
at C speed (``set(map(type, items))``), so plain data is never walked item by item: a list of 10,000 numbers takes
0.2 ms. And a large container that held nothing but plain data is remembered, so that a list of a million numbers
handed to a thousand tasks is looked through once (benchmarks/direct.py, "large arguments").
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from penstock.annotations import AllowFailure, Quote, Unmapped
from penstock.futures import Future
from penstock.states import State

__all__ = ("Input", "find_inputs", "replace_inputs")

Input: TypeAlias = Future[Any] | State | AllowFailure[Any] | Unmapped[Any] | Quote[Any]
"""What stands for something else among arguments."""

_Children: TypeAlias = Callable[[Any], Iterable[Any]]

_LARGE = 1_000
"""Items from which on a plain container is remembered; below, looking again takes less than 20 µs."""

_REMEMBERED = 64
"""How many large containers are remembered: more than a task has arguments, fewer than anybody would notice."""


def find_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[tuple[Input, bool]]:
    """Find the futures and states in a call's arguments.

    Returns:
        Each one with whether its failure is allowed; empty for most calls. A `quote` or another mark counts as
        found too: the function must not see it.
    """
    found: list[tuple[Input, bool]] | None = None
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind not in _PLAIN and not (kind in _BUILTIN and _is_plain(value)):
            found = [] if found is None else found
            _search(value, False, found, set())
    return found or ()


def _search(value: Any, allowed: bool, found: list[tuple[Input, bool]], path: set[int]) -> None:
    kind = type(value)
    if isinstance(value, Future | State) or kind is Quote:
        found.append((value, allowed))
    elif kind is AllowFailure or kind is Unmapped:
        found.append((value, allowed))
        _search(value.value, allowed or kind is AllowFailure, found, path)
    else:
        children = _children_of(kind)
        if children is not None and id(value) not in path and not _is_plain(value):
            path.add(id(value))
            for child in children(value):
                if type(child) not in _PLAIN:
                    _search(child, allowed, found, path)
            path.discard(id(value))


def replace_inputs(value: Any, known: Callable[[Future[Any] | State], Any]) -> Any:
    """Put a value in the place of every future and state.

    Containers without any come back as they are, the same object; others are rebuilt.

    Args:
        value: An argument.
        known: Gives the value for a future or state.
    """
    if isinstance(value, Future | State):
        return known(value)
    kind = type(value)
    if kind is AllowFailure or kind is Unmapped:
        return replace_inputs(value.value, known)
    if kind is Quote:
        return value.value
    if kind in _PLAIN or not _holds_marks(value):
        return value
    return _rebuild(value, lambda item: replace_inputs(item, known))


def _holds_marks(value: Any) -> bool:
    children = _children_of(type(value))
    if children is None or _is_plain(value):
        return False
    return any(
        isinstance(child, Future | State | AllowFailure | Unmapped | Quote) or _holds_marks(child)
        for child in children(value)
        if type(child) not in _PLAIN
    )


def _rebuild(value: Any, change: Callable[[Any], Any]) -> Any:
    kind = type(value)
    if isinstance(value, dict):
        return kind((change(key), change(item)) for key, item in value.items())
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return kind(*(change(item) for item in value))
    if isinstance(value, list | tuple | set | frozenset):
        return kind(change(item) for item in value)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(cast(Any, value), **{name: change(getattr(value, name)) for name in names})
    return value.model_copy(update={name: change(item) for name, item in value.__dict__.items()})


_PLAIN: set[type] = {int, float, str, bytes, bool, complex, bytearray, memoryview, type(None), range, slice}
"""Types that cannot hold a future; types that turn out to be no containers are added as they are met."""

_CHILDREN: dict[type, _Children] = {}


def _children_of(kind: type) -> _Children | None:
    children = _CHILDREN.get(kind)
    if children is None and kind not in _PLAIN:
        children = _learn(kind)
        if children is None:
            _PLAIN.add(kind)
        else:
            _CHILDREN[kind] = children
    return children


def _learn(kind: type) -> _Children | None:
    if issubclass(kind, list | tuple | set | frozenset):
        return iter
    if issubclass(kind, dict):
        return _keys_and_values
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return lambda value: [getattr(value, name) for name in names if hasattr(value, name)]
    # A pydantic model, recognised without importing pydantic.
    if hasattr(kind, "__pydantic_fields__") or hasattr(kind, "model_fields"):
        return lambda value: value.__dict__.values()
    return None


def _keys_and_values(value: dict[Any, Any]) -> Iterable[Any]:
    yield from value.keys()
    yield from value.values()


def _is_plain(value: Any) -> bool:
    """Whether a builtin container holds nothing but plain values, found out at C speed and remembered if large."""
    kind = type(value)
    if kind is dict:
        return not value or (set(map(type, value.values())) <= _PLAIN and set(map(type, value)) <= _PLAIN)
    if kind not in _BUILTIN:
        return False
    if len(value) < _LARGE:
        return set(map(type, value)) <= _PLAIN
    return _is_plain_and_large(value)


_BUILTIN = {list, tuple, set, frozenset}
_known_plain: OrderedDict[int, tuple[int, tuple[Any, ...]]] = OrderedDict()


def _is_plain_and_large(value: Any) -> bool:
    """Look once, then trust a fingerprint.

    A list tells nobody that it changed. So that a second look costs a microsecond, its address, its length and five of
    its items, compared by identity, stand for the whole. A list in which single items were exchanged for futures
    between two calls can slip through if none of those was one of the five; it was plain data a moment ago, and the
    function then gets the future itself, whose use says what it is.
    """
    key, mark = id(value), _fingerprint(value)
    if _known_plain.get(key) == mark:
        return True
    if not set(map(type, value)) <= _PLAIN:
        _known_plain.pop(key, None)
        return False
    _known_plain[key] = mark
    while len(_known_plain) > _REMEMBERED:
        _known_plain.popitem(last=False)
    return True


def _fingerprint(value: Any) -> tuple[int, tuple[Any, ...]]:
    size = len(value)
    if isinstance(value, set | frozenset):
        return size, ()
    part = size // 4
    return size, (id(value[0]), id(value[part]), id(value[2 * part]), id(value[3 * part]), id(value[-1]))
