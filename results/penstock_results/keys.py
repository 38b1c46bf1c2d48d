"""Cache keys: the same key for the same inputs and code, everywhere, and never the same for different ones.

::

    hash_value({"rows": frame, "limit": 10})     64 hexadecimal digits
    code_identity(function)                      likewise, of the code and all that it refers to
    make_key({"inputs.x": ..., "code": ...})     "v1-..." : a valid key of a result store

A value is walked and written as one canonical stream (`canonical`); what is not plain data is written as its class
and its state (`reducers`), memory as it lies (`array_reducers`), functions as code (`code_identity`). Whatever has no
canonical form is refused with the way to it, because a weaker key would one day return somebody else's result.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from penstock.errors import UnhashableInput
from penstock_results import array_reducers, reducers
from penstock_results import code_identity as code
from penstock_results.canonical import Digest, Encoder, Refusal, class_name

__all__ = ("KEY_VERSION", "code_identity", "hash_value", "make_key", "register_hasher")

KEY_VERSION = "v1"
"""The scheme's version, which every key starts with; a change of the canonical stream changes it."""

T = TypeVar("T")

_encoders_by_type: dict[type, Encoder] = {
    FunctionType: code.encode_function,
    BuiltinFunctionType: code.encode_builtin,
    MethodType: code.encode_method,
    ModuleType: code.encode_module,
    CodeType: code.encode_code,
    type: code.encode_class,
}
_PLAIN = reducers.BY_TYPE.keys() - {enum.Enum}
_registered: dict[type, Encoder] = {}
_resolved: WeakKeyDictionary[type, Encoder] = WeakKeyDictionary()


def hash_value(value: object, *, name: str = "value") -> str:
    """Hash a value, of any size and depth, at the speed of its memory.

    Args:
        value: Plain data, arrays, frames, dataclasses, models, functions, and containers of them.
        name: What to call the value in an error.

    Returns:
        64 hexadecimal digits: the same in every process for equal values of equal types, and different for others.

    Raises:
        UnhashableInput: If something in the value has no canonical form; the message names the way to it.
    """
    digest = Digest(_encoder_of)
    try:
        digest.feed(value)
        return digest.finish().hex()
    except Refusal as refusal:
        raise UnhashableInput(
            f"no cache key can be made of {name}{refusal.path}: {refusal.reason}. Leave the argument out "
            "(cache_policy=INPUTS - 'name'), give a cache_key_fn, or teach its type with register_hasher"
        ) from None
    except RecursionError:
        raise UnhashableInput(
            f"no cache key can be made of {name}: the stack is too deep to walk it from here"
        ) from None


def code_identity(function: Callable[..., Any]) -> str:
    """Hash a function's code, defaults, closure cells and the globals that it refers to, and so on in turn.

    Args:
        function: A function, method, partial or class; file name and line numbers do not count.

    Returns:
        64 hexadecimal digits.

    Raises:
        UnhashableInput: If it is a partial of, or a method bound to, something that has no canonical form.
    """
    return hash_value(function, name=getattr(function, "__qualname__", "function"))


def make_key(components: object) -> str:
    """Hash what a key is made of into the key itself.

    Args:
        components: Usually digests by name.

    Returns:
        A key that every result store accepts, beginning with the scheme's version.

    Raises:
        UnhashableInput: If something in the components has no canonical form.
    """
    return f"{KEY_VERSION}-{hash_value(components, name='key')}"


def register_hasher(cls: type[T], state: Callable[[T], object]) -> None:
    """Teach the hasher a type, and its subclasses.

    Args:
        cls: The type.
        state: Returns something hashable that tells any two different values of the type apart, for example a tuple
            of its fields. The type's name need not be part of it.
    """
    _registered[cls] = _encoder_from(state)
    _resolved.clear()


def _encoder_of(cls: type) -> Encoder:
    encoder = _resolved.get(cls)
    if encoder is None:
        encoder = _resolved[cls] = _find(cls)
    return encoder


def _find(cls: type) -> Encoder:
    """The encoder of the nearest class in the order of inheritance that has one."""
    bases = (enum.Enum,) if issubclass(cls, enum.Enum) else cls.__mro__
    for base in bases:
        encoder = _registered.get(base) or _encoders_by_type.get(base)
        if encoder is not None:
            return encoder
        encoder = _known_by_name(base)
        if encoder is not None:
            return encoder
        reduce = _reducer_of(base)
        if reduce is not None:
            return _encoder_from(reduce, with_own_state=base is not cls and base in _PLAIN)
    return _refuse


def _known_by_name(base: type) -> Encoder | None:
    place = (base.__module__.partition(".")[0], base.__name__)
    encoder = array_reducers.ENCODERS_BY_NAME.get(place)
    if encoder is not None:
        return encoder
    reduce = array_reducers.REDUCERS_BY_NAME.get(place) or reducers.BY_NAME.get(place)
    return None if reduce is None else _encoder_from(reduce)


def _reducer_of(base: type) -> reducers.Reducer | None:
    if "__dataclass_fields__" in base.__dict__:
        return reducers.dataclass_fields
    if "__attrs_attrs__" in base.__dict__:
        return reducers.attrs_fields
    return reducers.BY_TYPE.get(base)


def _encoder_from(reduce: Callable[[Any], object], *, with_own_state: bool = False) -> Encoder:
    """Make an encoder that writes a value's class and what the reducer says of it.

    Args:
        reduce: The reducer.
        with_own_state: Whether to write the instance's own attributes too: those that a subclass adds.
    """

    def encode(digest: Digest, value: Any) -> None:
        digest.enter(value)
        digest.text(b"o", class_name(type(value)))
        try:
            digest.feed(reduce(value))
            if with_own_state:
                digest.feed(reducers.own_state(value))
        finally:
            digest.leave(value)

    return encode


def _refuse(digest: Digest, value: object) -> None:
    raise Refusal(f"a {class_name(type(value)).replace(':', '.')} has no canonical form")
