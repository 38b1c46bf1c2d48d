"""What stands for a value that is not made of plain data: its state, as plain data.

A *reducer* takes a value and returns plain data (or memory, see `canonical.Raw`) in which nothing is missing that
could change what a function makes of the value. The class's name is written beside it, so two classes with the same
fields never collide.

Libraries are recognised by the names of their classes and never imported: if a value is a DataFrame, pandas is there.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import operator
import pathlib
import re
import types
import uuid
import zoneinfo
from collections import ChainMap, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from penstock_results.canonical import Fields

__all__ = ("BY_NAME", "BY_TYPE", "Reducer", "attrs_fields", "dataclass_fields", "own_state")

Reducer: TypeAlias = Callable[[Any], object]


def own_state(value: Any) -> Fields:
    """The attributes of an instance, in its ``__dict__`` and its classes' ``__slots__``, without cached properties."""
    cls = type(value)
    names = {name for base in cls.__mro__ for name in _slots(base)}
    names |= {
        name
        for name in getattr(value, "__dict__", ())
        if not isinstance(getattr(cls, name, None), functools.cached_property)
    }
    return Fields({name: getattr(value, name) for name in names if hasattr(value, name)})


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if not name.startswith("__"))


def dataclass_fields(value: Any) -> object:
    """The fields of a dataclass instance, and whatever else it keeps."""
    fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return Fields(own_state(value) | fields)


def attrs_fields(value: Any) -> object:
    """The fields of an instance of an attrs class."""
    return Fields({field.name: getattr(value, field.name, None) for field in type(value).__attrs_attrs__})


def _pydantic_model(value: Any) -> object:
    hidden = {"__pydantic_extra__": value.__pydantic_extra__, "__pydantic_private__": value.__pydantic_private__}
    return Fields(value.__dict__ | hidden)


def _zone(tz: datetime.tzinfo | None, offset: datetime.timedelta | None) -> object:
    return None if tz is None else (type(tz).__qualname__, str(tz), offset)


def _datetime(value: datetime.datetime) -> object:
    return value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo, value.utcoffset())


def _time(value: datetime.time) -> object:
    return value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo, value.utcoffset())


def _enum_member(value: enum.Enum) -> object:
    return value.name, value.value


def _plain_tuple(value: tuple[Any, ...]) -> object:
    return tuple.__getitem__(value, slice(None))


def _plain_list(value: list[Any]) -> object:
    return list.__getitem__(value, slice(None))


def _unordered(value: Mapping[Any, Any]) -> object:
    return dict(value)


def _array_interface(value: memoryview) -> object:
    return value.format, value.shape, value.tobytes()


BY_TYPE: dict[type, Reducer] = {
    # Subclasses of the plain types; an instance of the type itself never comes here.
    int: int.__int__,
    float: float.__float__,
    complex: lambda value: complex(value.real, value.imag),
    str: lambda value: str.__str__(value),
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: lambda value: bytes(memoryview(value)),
    tuple: _plain_tuple,
    list: _plain_list,
    dict: _unordered,
    set: lambda value: set(value),
    frozenset: lambda value: set(value),
    # The standard library's values.
    OrderedDict: lambda value: list(value.items()),
    defaultdict: lambda value: (value.default_factory, dict(value)),
    ChainMap: lambda value: list(value.maps),
    deque: lambda value: (value.maxlen, list(value)),
    types.MappingProxyType: _unordered,
    types.SimpleNamespace: lambda value: Fields(vars(value)),
    range: lambda value: (value.start, value.stop, value.step),
    slice: lambda value: (value.start, value.stop, value.step),
    memoryview: _array_interface,
    enum.Enum: _enum_member,
    datetime.datetime: _datetime,
    datetime.date: lambda value: value.isoformat(),
    datetime.time: _time,
    datetime.timedelta: lambda value: (value.days, value.seconds, value.microseconds),
    datetime.timezone: str,
    zoneinfo.ZoneInfo: str,
    decimal.Decimal: str,
    fractions.Fraction: lambda value: (value.numerator, value.denominator),
    uuid.UUID: lambda value: value.bytes,
    pathlib.PurePath: str,
    re.Pattern: lambda value: (value.pattern, value.flags),
    functools.partial: lambda value: (value.func, value.args, value.keywords),
    operator.attrgetter: lambda value: value.__reduce__()[1],
    operator.itemgetter: lambda value: value.__reduce__()[1],
    operator.methodcaller: lambda value: value.__reduce__()[1],
}

BY_NAME: dict[tuple[str, str], Reducer] = {
    ("pydantic", "BaseModel"): _pydantic_model,
    ("penstock", "Task"): lambda value: value.fn,
    ("penstock", "Flow"): lambda value: value.fn,
    # What it refers to, wherever that lies: the value that the next execution stores has another key.
    ("penstock_results", "ResultReference"): lambda value: (value.type, value.size, value.checksum),
}
"""Reducers of libraries' classes, by the top module's name and the class's."""
