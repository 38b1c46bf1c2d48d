"""JSON that keeps types.

What JSON has no word for is written as ``{"$type": name, "value": ...}``. The name is looked up in a registry and
nowhere else: data that name a type which nobody registered are refused, data that merely look like a class path stay
dictionaries, and nothing is ever imported because data say so. Bytes go into frames of their own.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import operator
import uuid
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from penstock.errors import ConfigurationError, ResultError
from penstock_results.plain import plain

if TYPE_CHECKING:
    from penstock_results.serializers import Stream

__all__ = ("JsonSerializer", "register_type")

_TAG = "$type"
_T = TypeVar("_T")


class _Kind(NamedTuple):
    """How one type is written and read.

    Attributes:
        name: What it is called in the data.
        pack: Turns a value into something simpler, which is then encoded itself.
        unpack: Turns that into a value again.
    """

    name: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


class JsonSerializer:
    """Typed JSON, made by orjson."""

    name = "json"
    runs_code = False

    def dump(self, value: Any, stream: Stream) -> None:
        """Write the value.

        Raises:
            TypeError: If something in it has a type that is not registered; the message says where.
        """
        encoder = _Encoder()
        stream.write(orjson.dumps(encoder.encode(value, "result")))
        for data in encoder.frames:
            stream.frame()
            stream.write(data)

    def load(self, frames: Sequence[memoryview]) -> Any:
        """Read the value."""
        return _decode(orjson.loads(frames[0]), frames)


def register_type(
    kind: type[_T],
    *,
    name: str | None = None,
    pack: Callable[[_T], Any] | None = None,
    unpack: Callable[[Any], _T] | None = None,
) -> type[_T]:
    """Let the ``json`` serializer keep a type; usable as a class decorator.

    Dataclasses, enums, named tuples and pydantic models need nothing else. Reading processes must register the type
    under the same name, which importing the module that registers it does.

    Args:
        kind: The type; its subclasses are not included.
        name: What it is called in the data; its module and qualified name by default.
        pack: Turns a value into something that can be encoded.
        unpack: Turns that into a value again.

    Raises:
        ConfigurationError: If the type needs ``pack`` and ``unpack``, or another type has the name.
    """
    identity = f"{kind.__module__}.{kind.__qualname__}"
    name = name or identity
    known = _by_name.get(name)
    if known is not None and f"{known[0].__module__}.{known[0].__qualname__}" != identity:
        raise ConfigurationError(f"the name {name!r} belongs to {known[0]!r} already: register {kind!r} under another")
    if (pack is None) != (unpack is None):
        raise ConfigurationError(f"register {kind!r} with both pack= and unpack=, or with neither")
    entry = _Kind(name, pack, unpack) if pack and unpack else _derived(kind, name)
    _by_type[kind] = entry
    _by_name[name] = (kind, entry)
    return kind


class _Encoder:
    """Turns one value into what orjson writes exactly; collects bytes on the way."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def encode(self, value: Any, path: str) -> Any:
        if plain(value):
            return value
        kind = type(value)
        if kind is list:
            return [self.encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if kind is dict:
            return self._encode_dict(value, path)
        if kind in (bytes, bytearray):
            self.frames.append(value)
            return {_TAG: kind.__name__, "value": len(self.frames)}
        entry = _by_type.get(kind)
        if entry is None:
            raise TypeError(
                f"{path} is a {kind.__module__}.{kind.__qualname__}, which the json serializer does not know: "
                "register it with penstock.results.register_type(), or name another serializer"
            )
        return {_TAG: entry.name, "value": self.encode(entry.pack(value), path)}

    def _encode_dict(self, value: dict[Any, Any], path: str) -> Any:
        if _TAG not in value and all(type(key) is str and plain(key) for key in value):
            return {key: self.encode(item, f"{path}[{key!r}]") for key, item in value.items()}
        pairs = [[self.encode(key, path), self.encode(item, f"{path}[{key!r}]")] for key, item in value.items()]
        return {_TAG: "dict", "value": pairs}


def _decode(data: Any, frames: Sequence[memoryview]) -> Any:
    if type(data) is list:
        return [_decode(item, frames) for item in data]
    if type(data) is not dict:
        return data
    if _TAG not in data:
        return {key: _decode(item, frames) for key, item in data.items()}
    name, value = data[_TAG], data["value"]
    if name == "dict":
        return {_decode(key, frames): _decode(item, frames) for key, item in value}
    if name in _BYTES:
        return _BYTES[name](frames[value])
    known = _by_name.get(name)
    if known is None:
        raise ResultError(
            f"the type {name!r} is not registered in this process: import the module that calls "
            "penstock.results.register_type() for it, then read again"
        )
    return known[1].unpack(_decode(value, frames))


def _derived(kind: type[Any], name: str) -> _Kind:
    methods: Any = kind
    if issubclass(kind, enum.Enum):
        return _Kind(name, operator.attrgetter("name"), kind.__getitem__)
    if dataclasses.is_dataclass(methods):
        return _Kind(name, _dataclass_fields, partial(_dataclass, kind))
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        return _Kind(name, list, methods._make)
    if hasattr(kind, "__pydantic_validator__"):
        return _Kind(name, _model_data, methods.model_validate_json)
    raise ConfigurationError(
        f"{kind!r} is no dataclass, enum, named tuple or pydantic model: register it with pack= and unpack="
    )


def _dataclass_fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _dataclass(kind: type[Any], fields: Mapping[str, Any]) -> Any:
    """Make a dataclass by its own constructor, then set what the constructor does not take."""
    own = {field.name: field.init for field in dataclasses.fields(kind)}
    value = kind(**{name: item for name, item in fields.items() if own.get(name, True)})
    for name, item in fields.items():
        if not own[name]:
            object.__setattr__(value, name, item)
    return value


def _model_data(value: Any) -> str:
    """Dump a pydantic model the way pydantic reads it back, and make sure that nothing is lost on the way."""
    data: str = value.model_dump_json(round_trip=True)
    if type(value).model_validate_json(data) != value:
        raise TypeError(
            f"{type(value).__qualname__} does not come back from its own JSON as it was (a field's annotation does not "
            "say enough): annotate the field exactly, or name another serializer"
        )
    return data


def _text_octets(text: str) -> bytes:
    """Encode a string that UTF-8 proper refuses."""
    return text.encode("utf-8", "surrogatepass")


def _octets_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _complex_parts(number: complex) -> list[float]:
    return [number.real, number.imag]


def _timedelta_parts(delta: datetime.timedelta) -> list[int]:
    return [delta.days, delta.seconds, delta.microseconds]


def _spread(kind: Callable[..., _T], parts: Sequence[Any]) -> _T:
    return kind(*parts)


def _datetime_parts(value: datetime.datetime) -> list[Any]:
    zone = value.tzinfo
    if zone is None or isinstance(zone, datetime.timezone):
        return [value.isoformat(), None, value.fold]
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return [value.replace(tzinfo=None).isoformat(), zone.key, value.fold]
    raise TypeError(f"a datetime in the time zone {zone!r}, which has no name: use zoneinfo.ZoneInfo or a fixed offset")


def _datetime(parts: list[Any]) -> datetime.datetime:
    text, zone, fold = parts
    value = datetime.datetime.fromisoformat(text).replace(fold=fold)
    return value if zone is None else value.replace(tzinfo=zoneinfo.ZoneInfo(zone))


_BYTES: Mapping[str, Callable[[memoryview], Any]] = {"bytes": bytes, "bytearray": bytearray}
_BUILT_IN: Mapping[type[Any], _Kind] = {
    int: _Kind("int", hex, partial(int, base=16)),
    float: _Kind("float", repr, float),
    str: _Kind("str", _text_octets, _octets_text),
    complex: _Kind("complex", _complex_parts, partial(_spread, complex)),
    tuple: _Kind("tuple", list, tuple),
    set: _Kind("set", list, set),
    frozenset: _Kind("frozenset", list, frozenset),
    datetime.datetime: _Kind("datetime", _datetime_parts, _datetime),
    datetime.date: _Kind("date", datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: _Kind("time", datetime.time.isoformat, datetime.time.fromisoformat),
    datetime.timedelta: _Kind("timedelta", _timedelta_parts, partial(_spread, datetime.timedelta)),
    decimal.Decimal: _Kind("decimal", str, decimal.Decimal),
    uuid.UUID: _Kind("uuid", str, uuid.UUID),
}
_by_type: dict[type[Any], _Kind] = dict(_BUILT_IN)
_by_name: dict[str, tuple[type[Any], _Kind]] = {entry.name: (kind, entry) for kind, entry in _BUILT_IN.items()}
