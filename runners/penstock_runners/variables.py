"""Context variables on their way to a worker.

A `contextvars.ContextVar` cannot be pickled, and its value lies in no object that could be. What both sides share is a
name: the module and the attribute where the variable was found, or, for a variable that lies in no module, a name
made up when a function that refers to it was sent. The worker sets the variables whose module it has loaded, which
includes every one that the function's own module imports.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from contextvars import Context, ContextVar
from typing import Any, NamedTuple

__all__ = ("Name", "name_for_function", "resolve", "restore", "travelling")


class Name(NamedTuple):
    """Where a variable is found: an attribute of a module, or an entry of the table here when the module is empty."""

    module: str
    attribute: str


# Their variables describe the process or the loop that they were set in, and would be lies anywhere else.
_LOCAL_PACKAGES = frozenset({"anyio", "asyncio", "dask", "distributed", "penstock", "ray", "sniffio"})
_LOCAL_MODULES = frozenset({"penstock_runners.capture"})

_names: dict[ContextVar[Any], Name | None] = {}
_made: dict[Name, ContextVar[Any]] = {}


def travelling(context: Context) -> dict[Name, Any]:
    """The variables of a context that a worker can find again, with their values."""
    found: dict[Name, Any] = {}
    for variable, value in context.items():
        name = _name(variable)
        if name is not None:
            found[name] = value
    return found


def name_for_function(variable: ContextVar[Any]) -> Name:
    """The name of a variable that a function refers to; made up if the variable lies in no module."""
    name = _name(variable)
    if name is None:
        name = _names[variable] = Name("", f"{variable.name}:{uuid.uuid4().hex}")
        _made[name] = variable
    return name


def resolve(name: Name) -> ContextVar[Any]:
    """Find the variable of that name, or make it if this process has no such module."""
    if name in _made:
        return _made[name]
    found = getattr(sys.modules.get(name.module), name.attribute, None)
    if isinstance(found, ContextVar):
        return found
    return _made.setdefault(name, ContextVar(name.attribute.partition(":")[0]))


def restore(values: Mapping[Name, Any]) -> None:
    """Set the variables in the current context, except those of modules that are not loaded here."""
    for name, value in values.items():
        if name.module in _ANYWHERE or name.module in sys.modules or name in _made:
            resolve(name).set(value)


_ANYWHERE = frozenset({"", "__main__"})


def _name(variable: ContextVar[Any]) -> Name | None:
    try:
        return _names[variable]
    except KeyError:
        name = _names[variable] = _search(variable)
        return name


def _search(variable: ContextVar[Any]) -> Name | None:
    """Look through the loaded modules, once per variable; `__main__` comes last, as any other name is better."""
    modules = [(name, module) for name, module in list(sys.modules.items()) if name != "__main__"]
    for name, module in (*modules, ("__main__", sys.modules["__main__"])):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                is_local = name in _LOCAL_MODULES or name.partition(".")[0] in _LOCAL_PACKAGES
                return None if is_local else Name(name, attribute)
    return None
