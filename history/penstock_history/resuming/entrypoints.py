"""Where a flow is found again: the text that a record keeps, and the way back from it.

::

    etl.daily:pipeline           in a module that any process can import
    /home/me/etl.py:pipeline     in a script, started by its path or with ``python -m``
    __main__:pipeline            in a notebook or at a prompt, where only this very process finds it

A script is ``__main__`` in the process that it started. Here it is loaded as ``__mp_main__``, as multiprocessing does
in its workers: what stands below ``if __name__ == "__main__"`` is left alone, and digests of code and cache keys take
the two names for one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from penstock.definitions import Definition
from penstock.errors import FlowNotFound
from penstock.flows import Flow

__all__ = ("entrypoint_of", "load", "load_flow")

D = TypeVar("D", bound=Definition[..., Any])

_MAIN = ("__main__", "__mp_main__")
_alive: WeakValueDictionary[str, Flow[..., Any]] = WeakValueDictionary()
"""Flows that this process has recorded: of one made inside a function, or in a notebook, no name may lead to it."""


def entrypoint_of(flow: Flow[..., Any]) -> str | None:
    """Say where a flow is found.

    Args:
        flow: The flow.

    Returns:
        What `load_flow` takes, or None for one that nobody could find again: a method that is bound to an object, or
        a function without a name.
    """
    function: Any = flow.fn
    owner = getattr(function, "__self__", None)
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None or name is None or not (owner is None or isinstance(owner, type)):
        return None
    entrypoint = f"{_place(module, function)}:{_name_in(module, flow, name)}"
    _alive[entrypoint] = flow
    return entrypoint


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """Find a flow, importing its module or running its script if this process has not done so.

    Args:
        entrypoint: ``"module:name"`` or ``"path/to/file.py:name"``.

    Raises:
        FlowNotFound: If there is none; says what was looked for, and what to do.
    """
    return _alive.get(entrypoint) or load(entrypoint, Flow)


def load(entrypoint: str, kind: type[D]) -> D:
    """Find a flow or a task at the top level of a module or script.

    Args:
        entrypoint: As for `load_flow`.
        kind: `Flow` or `Task`.

    Raises:
        FlowNotFound: If there is none.
    """
    what = kind.kind
    place, _, name = entrypoint.rpartition(":")
    if not place or not name:
        raise FlowNotFound(f"{entrypoint!r} names no {what}: write 'module:{what}' or 'path/to/file.py:{what}'.")
    if "<" in name:
        raise FlowNotFound(
            f"The {what} {name!r} of {place} was made inside a function, so only the process that made it can find it "
            "again: define it at the module's top level."
        )
    found = _look_up(_load(place), name, place, kind)
    if not isinstance(found, kind):
        raise FlowNotFound(
            f"{name!r} in {place} is a {type(found).__name__} and not a {what}: decorate it with @{what}."
        )
    return found


def _place(module: str, function: Any) -> str:
    if module not in _MAIN:
        return module
    path = getattr(function, "__globals__", {}).get("__file__")
    return "__main__" if path is None else str(Path(path).resolve())


def _name_in(module: str, flow: Flow[..., Any], name: str) -> str:
    """The name under which this very object stands in its module: a copy with other options has one of its own."""
    names = vars(sys.modules[module]) if module in sys.modules else {}
    if names.get(name) is flow:
        return name
    return next((other for other, value in names.items() if value is flow), name)


def _look_up(module: ModuleType, name: str, place: str, kind: type[Definition[..., Any]]) -> Any:
    try:
        return attrgetter(name)(module)
    except AttributeError:
        known = sorted(key for key, value in vars(module).items() if isinstance(value, kind))
        there = f"the {kind.kind}s there are {', '.join(known)}" if known else f"no {kind.kind} is there"
        raise FlowNotFound(f"There is no {name!r} in {place}: {there}. Has it been renamed or moved?") from None


def _load(place: str) -> ModuleType:
    main = sys.modules["__main__"]
    if place == "__main__":
        return main
    if not place.endswith(".py"):
        return _import(place)
    path = Path(place).resolve()
    for name in _MAIN:
        running = getattr(sys.modules.get(name), "__file__", None)
        if running is not None and Path(running).resolve() == path:
            return sys.modules[name]
    return _run_script(path)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise FlowNotFound(
            f"Importing the module {name!r} failed: {type(error).__name__}: {error}. If it lies elsewhere, work in its "
            "folder or name that in PYTHONPATH."
        ) from error


def _run_script(path: Path) -> ModuleType:
    # It takes the name __mp_main__ when it is first imported, and a script that imports it would lose its own.
    importlib.import_module("multiprocessing")

    if not path.is_file():
        raise FlowNotFound(f"There is no file {path}. Has the script been moved?")
    folder, package = _package_of(path)
    if (entry := os.fspath(folder)) not in sys.path:
        sys.path.insert(0, entry)
    spec = importlib.util.spec_from_file_location("__mp_main__", path)
    assert spec is not None, "a path that ends with .py has a loader"
    assert spec.loader is not None, "likewise"
    module = importlib.util.module_from_spec(spec)
    module.__package__ = package
    before = sys.modules.get("__mp_main__")
    sys.modules["__mp_main__"] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        _put_back(before)
        raise FlowNotFound(f"Running {path} failed: {type(error).__name__}: {error}.") from error
    _let_travel(module)
    return module


def _package_of(path: Path) -> tuple[Path, str]:
    """The folder that the script's imports start from, and the package that its relative imports are relative to."""
    folder, names = path.parent, list[str]()
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(names)


def _put_back(module: ModuleType | None) -> None:
    if module is None:
        del sys.modules["__mp_main__"]
    else:
        sys.modules["__mp_main__"] = module


def _let_travel(module: ModuleType) -> None:
    """Have what is defined in a script pickled by value, as from the process that it started."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)
