"""What makes a function or class the one that it is: its code, and every value that the code refers to.

A function is written into the digest as its name, its code, its defaults, its closure cells and the globals that the
code names. Functions and classes among those are followed in turn. The user's own code is followed, including
``helpers.compute`` through the module `helpers`; the standard library and installed packages count by name only.

A default, cell or global without a canonical form (a client, a lock, a logger) counts by its type's name: it is part
of where the function runs and not of what it computes. Modules imported inside the function are not followed.
"""

from __future__ import annotations

import builtins
import functools
import sys
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from penstock_results.canonical import Digest, class_name
from penstock_results.code_analysis import CodeFacts, Path, plain_code, read_code

__all__ = (
    "encode_builtin",
    "encode_class",
    "encode_code",
    "encode_function",
    "encode_method",
    "encode_module",
    "references",
)

_MISSING = object()
_OWN = ("penstock", "penstock_runners", "penstock_results", "penstock_history")
_INSTALLED = ("/site-packages/", "/dist-packages/")
_CONTAINERS = (list, dict, set, bytearray, deque)


def encode_function(digest: Digest, function: FunctionType) -> None:
    """Write a function: its content where it can change, its name where it is a library's."""
    if function.__closure__ is None and not _is_user_module(function.__module__):
        digest.text(b"g", _function_name(function))
    else:
        digest.later(function, _encode_function_content)


def encode_method(digest: Digest, method: MethodType) -> None:
    """Write a bound method: its function and the object that it is bound to."""
    digest.write(b"m")
    digest.feed(method.__func__)
    digest.feed(method.__self__)


def encode_builtin(digest: Digest, function: BuiltinFunctionType) -> None:
    """Write a function or bound method that is not written in Python."""
    owner = function.__self__
    digest.text(b"G", f"{function.__module__}.{function.__qualname__}")
    if owner is not None and not isinstance(owner, ModuleType):
        digest.feed(owner)


def encode_module(digest: Digest, module: ModuleType) -> None:
    """Write a module, which counts by name."""
    digest.text(b"p", module.__name__)


def encode_code(digest: Digest, code: CodeType) -> None:
    """Write a code object."""
    digest.write(b"c")
    digest.feed(plain_code(code))


def encode_class(digest: Digest, cls: type) -> None:
    """Write a class: its content if the user wrote it, else its name."""
    if _is_user_module(cls.__module__):
        digest.later(cls, _encode_class_content)
    else:
        digest.text(b"k", class_name(cls))


def _encode_class_content(digest: Digest, cls: type) -> None:
    digest.text(b"K", class_name(cls))
    for base in cls.__bases__:
        digest.feed(base)
    for name in sorted(cls.__dict__):
        member = _unwrapped(cls.__dict__[name])
        if isinstance(member, FunctionType) or not name.startswith("__"):
            digest.text(b"s", name)
            digest.attempt(member)


def _unwrapped(member: Any) -> Any:
    if isinstance(member, property):
        return (member.fget, member.fset, member.fdel)
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    if isinstance(member, functools.cached_property):
        return member.func
    return member


def _encode_function_content(digest: Digest, function: FunctionType) -> None:
    code = function.__code__
    facts = read_code(code)
    digest.text(b"f", _function_name(function))
    encode_code(digest, code)
    for default in function.__defaults__ or ():
        digest.attempt(default)
    for name, default in sorted((function.__kwdefaults__ or {}).items()):
        digest.text(b"s", name)
        digest.attempt(default)
    for path, value in _references(function, facts):
        _encode_reference(digest, path, value, facts)


def references(function: FunctionType) -> list[Any]:
    """Return what a function's code refers to: what its closure holds, and the globals that it names."""
    return [value for _, value in _references(function, read_code(function.__code__))]


def _references(function: FunctionType, facts: CodeFacts) -> Iterator[tuple[Path, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        yield (name,), _cell_value(cell)
    if _is_user_module(function.__globals__.get("__name__", "")):
        for path in sorted(facts.globals):
            value = _look_up(function.__globals__, path)
            if value is not _MISSING:
                yield path, value


def _encode_reference(digest: Digest, path: Path, value: Any, facts: CodeFacts) -> None:
    digest.text(b"n", ".".join(path))
    rebound = len(path) == 1 and path[0] in facts.rebound
    if rebound or (path in facts.mutated and _can_be_state(value)):
        digest.text(b"?", class_name(type(value)))
    else:
        digest.attempt(value)


def _can_be_state(value: Any) -> bool:
    return isinstance(value, _CONTAINERS) or not isinstance(value, type | FunctionType | ModuleType)


def _look_up(names: dict[str, Any], path: Path) -> Any:
    """The value at a path, which may lead through the user's modules; attributes of anything else are not followed."""
    value = names.get(path[0], _MISSING)
    if value is _MISSING:
        return getattr(builtins, path[0], _MISSING) if len(path) == 1 else _MISSING
    for name in path[1:]:
        if not isinstance(value, ModuleType) or not _is_user_module(value.__name__):
            return _MISSING
        value = vars(value).get(name, _MISSING)
    return value


def _cell_value(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _MISSING


def _function_name(function: FunctionType) -> str:
    module = "__main__" if function.__module__ == "__mp_main__" else function.__module__
    return f"{module}:{function.__qualname__}"


@functools.lru_cache(maxsize=4096)
def _is_user_module(name: str | None) -> bool:
    """Whether a module is the user's own: not the standard library's, not ours, not installed as a package."""
    top = (name or "").partition(".")[0]
    if top in sys.stdlib_module_names or top in sys.builtin_module_names or top in _OWN:
        return False
    path = getattr(sys.modules.get(name or ""), "__file__", None) or ""
    return not any(part in path.replace("\\", "/") for part in _INSTALLED)
