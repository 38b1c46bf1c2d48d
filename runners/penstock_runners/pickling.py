"""How functions and values become bytes, and what to tell the user when they cannot.

Most values go through the standard pickler, which is several times faster. What it cannot do (functions and classes
of a notebook, a script or a closure) goes through cloudpickle, which sends code by value. Three rules are ours:

* a function that a decorator has replaced under its own name (every ``@task``) is found again through its wrapper, so
  that it travels as a name and not together with every global that it mentions;
* a module that a fresh interpreter could not import (a script run by path, a test module loaded by file) travels by
  value, together with what is defined in it;
* context variables travel as the name under which the other side finds or makes the same variable.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import cloudpickle

from penstock_runners import variables

__all__ = (
    "Packet",
    "Pickled",
    "TooLarge",
    "dumps",
    "dumps_code",
    "dumps_within",
    "explain",
    "loads",
    "travels",
)

# A buffer of its own saves one copy of the data and costs one more write: it pays from about here (benchmarks/wire.py).
OUT_OF_BAND = 16 * 1024


class Packet(NamedTuple):
    """A pickled value: the stream, and the large buffers that were left out of it."""

    head: bytes
    buffers: list[Any]

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        if protocol.__index__() < 5:  # Dask's messages between scheduler and client, now and then
            return Packet, (self.head, [bytes(buffer) for buffer in self.buffers])
        return Packet, (self.head, [pickle.PickleBuffer(buffer) for buffer in self.buffers])


Pickled: TypeAlias = "bytes | Packet"
"""A pickled value: a `Packet` if it has buffers of its own, else the plain bytes, which cost less to handle."""


def dumps(value: Any) -> Pickled:
    """Pickle a value, with cloudpickle where needed.

    Raises:
        Exception: Whatever the value's own reduction raises; `explain` turns it into something readable.
    """
    buffers: list[Any] = []
    try:
        head = pickle.dumps(value, 5, buffer_callback=functools.partial(_keep_in_band, buffers))
        if not _names_what_only_we_have(head):
            return Packet(head, buffers) if buffers else head
    except Exception:  # the second pickler's answer is the one that counts
        pass
    return dumps_code(value)


def dumps_code(value: Any) -> Pickled:
    """Pickle a value that has a function in it, with cloudpickle and no attempt to do without it.

    That attempt may fail, or turn out to be of no use, only after everything else in the value has been pickled.

    Raises:
        Exception: Whatever the value's own reduction raises; `explain` turns it into something readable.
    """
    buffers: list[Any] = []
    stream = io.BytesIO()
    pickler: Any = _Pickler(stream, 5, functools.partial(_keep_in_band, buffers))
    pickler.dump(value)
    return Packet(stream.getvalue(), buffers) if buffers else stream.getvalue()


def _keep_in_band(large: list[Any], buffer: pickle.PickleBuffer) -> bool:
    if memoryview(buffer).nbytes < OUT_OF_BAND:
        return True
    large.append(buffer.raw())
    return False


class TooLarge(Exception):
    """A pickle became longer than it may."""


def dumps_within(value: Any, limit: int) -> bytes:
    """Pickle a value into one piece, and give up as soon as that has more than ``limit`` bytes.

    Raises:
        TooLarge: If it has.
        Exception: Whatever the value's own reduction raises.
    """
    try:
        stream = _Bounded(limit)
        pickle.Pickler(stream, 5).dump(value)
        if not _names_what_only_we_have(stream.getvalue()):
            return stream.getvalue()
    except TooLarge:
        raise
    except Exception:  # the second pickler's answer is the one that counts
        pass
    stream = _Bounded(limit)
    _Pickler(stream, 5).dump(value)  # pyright: ignore[reportCallIssue] # cloudpickle has no types
    return stream.getvalue()


class _Bounded(io.BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > self._limit:
            raise TooLarge
        return super().write(data)


def loads(pickled: Pickled) -> Any:
    """Make the value again."""
    if isinstance(pickled, Packet):
        return pickle.loads(pickled.head, buffers=pickled.buffers)
    return pickle.loads(pickled)


def travels(value: Any) -> bool:
    """Whether `dumps` takes the value."""
    return _refusal(value) is None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
    """cloudpickle with the three rules of this module."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ContextVar):
            return variables.resolve, (variables.name_for_function(obj),)
        if isinstance(obj, types.FunctionType | type):
            _register_if_only_here(obj.__module__)
        if isinstance(obj, types.FunctionType) and (reference := _through_wrapper(obj)):
            return _unwrapped, reference
        return super().reducer_override(obj)


# --- modules that only this process has ---------------------------------------------------------------------------

_only_here: set[bytes] = {b"__main__"}


def _names_what_only_we_have(head: bytes) -> bool:
    for name in _only_here:  # noqa: SIM110 (a generator costs more than the search, on every argument and value)
        if name in head:
            return True
    return False


def _register_if_only_here(name: str | None) -> None:
    """Have cloudpickle send a module's code by value if no other interpreter could import the module."""
    module = sys.modules.get(name) if name else None
    if name is None or module is None or _importable_elsewhere(name.partition(".")[0]):
        return
    if name.encode() not in _only_here:
        _only_here.add(name.encode())
        cloudpickle.register_pickle_by_value(module)


@functools.lru_cache(maxsize=4096)
def _importable_elsewhere(package: str) -> bool:
    if package in sys.builtin_module_names or package == "__main__":
        return True  # cloudpickle knows what to do with __main__
    return any(finder.find_spec(package, None) is not None for finder in sys.meta_path if hasattr(finder, "find_spec"))


# --- functions behind their decorators ----------------------------------------------------------------------------

_WRAPPER_ATTRIBUTES = ("__wrapped__", "fn")


def _through_wrapper(function: types.FunctionType) -> tuple[str, str, tuple[str, ...]] | None:
    """Find the way to a function through the object that stands in the module under the function's name."""
    module = sys.modules.get(function.__module__ or "")
    if module is None or module.__name__ == "__main__" or module.__name__.encode() in _only_here:
        return None
    if module.__name__ in cloudpickle.list_registry_pickle_by_value() or "<" in function.__qualname__:
        return None
    try:
        found = attrgetter(function.__qualname__)(module)
    except AttributeError:
        return None
    steps: list[str] = []
    while found is not function:
        step = next((name for name in _WRAPPER_ATTRIBUTES if hasattr(found, name)), None)
        if step is None or len(steps) == 20:
            return None
        found = getattr(found, step)
        steps.append(step)
    return (module.__name__, function.__qualname__, tuple(steps)) if steps else None


def _unwrapped(module: str, qualname: str, steps: tuple[str, ...]) -> Any:
    __import__(module)
    return attrgetter(".".join((qualname, *steps)))(sys.modules[module])


# --- what cannot be pickled, by name ------------------------------------------------------------------------------


def explain(value: Any, name: str) -> str:
    """Say which part of a value keeps it from being pickled.

    Args:
        value: Something that `dumps` refused.
        name: What the user calls it, for example ``cfg``.

    Returns:
        For example ``"`cfg.session._lock`: cannot pickle '_thread.lock' object"``.
    """
    path, reason = name, _refusal(value)
    if reason is None:
        return f"`{name}`: it pickles now, so it was changed by another thread while it was being pickled"
    seen: set[int] = set()
    while id(value) not in seen:
        seen.add(id(value))
        for step, child in _parts(value):
            if id(child) not in seen and (refusal := _refusal(child)) is not None:
                path, value, reason = path + step, child, refusal
                break
    return f"`{path}`: {reason}"


def _refusal(value: Any) -> str | None:
    try:
        dumps(value)
    except Exception as error:
        return str(error) or type(error).__name__
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The objects that pickling ``value`` would pickle, each with the text that leads from ``value`` to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{_short(key)}]", item
            yield f" (the key {_short(key)})", key
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    else:
        yield from _state_parts(value)


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield f" (its variable `{name}`)", cell.cell_contents
        except ValueError:  # the enclosing function has not set it yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f" (the global `{name}` that it uses)", function.__globals__[name]
    for index, default in enumerate(function.__defaults__ or ()):
        yield f" (default {index})", default
    yield from ((f" (default of `{name}`)", default) for name, default in (function.__kwdefaults__ or {}).items())


def _state_parts(value: Any) -> Iterator[tuple[str, Any]]:
    names: dict[str, None] = dict.fromkeys(getattr(value, "__dict__", ()))
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        names.update(dict.fromkeys((slots,) if isinstance(slots, str) else slots))
    for name in names:
        try:
            yield f".{name}", getattr(value, name)
        except AttributeError:  # a slot that was never set
            continue
    yield from _reduced_parts(value)


def _reduced_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object without attributes of its own (an extension type, a partial) hands to the pickler."""
    reduce: Callable[[int], Any] = value.__reduce_ex__
    try:
        reduced = reduce(5)
    except Exception:
        return
    if isinstance(reduced, tuple):
        yield from ((f" (part {index} of its reduction)", part) for index, part in enumerate(reduced) if part)


def _short(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 40 else text[:37] + "..."
