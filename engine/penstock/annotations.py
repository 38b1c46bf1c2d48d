"""Marks on arguments: how the engine is to treat a value before the function gets it. Pure."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, cast

__all__ = ("AllowFailure", "Annotation", "Quote", "Unmapped", "allow_failure", "quote", "unmapped")

T = TypeVar("T")


class Annotation(Generic[T]):
    """A value with a mark on it."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value: T = value

    def unwrap(self) -> T:
        """The value without the mark."""
        return self.value

    def rewrap(self, value: T) -> Annotation[T]:
        """The same mark on another value."""
        return type(self)(value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == cast("Annotation[Any]", other).value

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # a mark is as unhashable as a list: it may hold anything

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()}({self.value!r})"


class Unmapped(Annotation[T]):
    """See `unmapped`."""

    __slots__ = ()


class AllowFailure(Annotation[T]):
    """See `allow_failure`."""

    __slots__ = ()


class Quote(Annotation[T]):
    """See `quote`."""

    __slots__ = ()


def unmapped(value: T) -> T:
    """Hand the value as a whole to every run of a `map`.

    Typed as the value itself, so that a map's arguments keep the function's types.
    """
    return cast(T, Unmapped(value))


def allow_failure(value: T) -> T:
    """Run the task even if the run behind this future failed; the argument is then that run's exception."""
    return cast(T, AllowFailure(value))


def quote(value: T) -> T:
    """Hand the value over untouched: futures inside it are not waited for."""
    return cast(T, Quote(value))
