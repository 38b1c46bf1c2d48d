"""What a command line names: a flow or task, and its parameters."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock.cli.tracebacks import is_the_users, print_failure
from penstock.errors import FlowNotFound, ParameterBindError

if TYPE_CHECKING:
    from penstock.definitions import Definition
    from penstock.flows import Flow
    from penstock.tasks import Task

C = TypeVar("C", bound=Callable[..., Any])
D = TypeVar("D", bound="Definition[..., Any]")

__all__ = ("find_flow", "find_task", "loading", "parameters_option", "read_parameters")


def parameters_option(command: C) -> C:
    """Give a command the option ``-p KEY=VALUE``, whose values it gets as ``given``."""
    text = "A parameter, read as its annotation says: text, a number, JSON. KEY=@FILE reads the value from a file."
    return click.option("-p", "--parameter", "given", multiple=True, metavar="KEY=VALUE", help=text)(command)


def find_flow(target: str) -> Flow[..., Any]:
    """Load a flow as a program would that was started here.

    Args:
        target: ``path/to/file.py:flow`` or ``module:flow``.

    Raises:
        FlowNotFound: If there is none.
    """
    from penstock.flows import Flow

    return _find(target, Flow)


def find_task(target: str) -> Task[..., Any]:
    """Load a task, likewise.

    Raises:
        FlowNotFound: If there is none.
    """
    from penstock.tasks import Task

    return _find(target, Task)


def _find(target: str, kind: type[D]) -> D:
    from penstock_history.resuming.entrypoints import load

    with loading():
        found = load(target, kind)
    _be_the_program(found.fn.__module__)
    return found


@contextmanager
def loading() -> Generator[None, None, None]:
    """The block in which the user's modules are imported, those in the current folder included."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        yield
    except FlowNotFound as error:
        cause = error.__cause__
        if cause is not None and is_the_users(cause):
            print_failure(cause)
        raise


def _be_the_program(module: str) -> None:
    """Let a script that was loaded by its path be the main module, as if it had been started.

    Processes that its own code starts look there for what they shall load.
    """
    if module == "__mp_main__":
        sys.modules["__main__"] = sys.modules[module]
        sys.modules[module].__spec__ = None


def read_parameters(definition: Definition[..., Any], given: Iterable[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn ``key=value`` texts into the arguments of a call.

    Args:
        definition: The flow or task.
        given: The texts, in the order of the command line.

    Raises:
        ParameterBindError: If one is unknown, missing or given twice; names it.
        ParameterTypeError: If one does not fit its annotation; names it.
    """
    signature = inspect.signature(definition.fn)
    named = {name: each for name, each in signature.parameters.items() if each.kind not in _ANY_NUMBER}
    rest = next((each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD), None)
    arguments: dict[str, Any] = {}
    further: dict[str, Any] = {}
    for name, text in _split(given):
        if name in arguments or name in further:
            raise ParameterBindError(f"-p {name}=... is given twice.")
        if name not in named and rest is None:
            nearest = difflib.get_close_matches(name, named, n=1)
            hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
            raise ParameterBindError(f"{definition} has no parameter {name!r}. {hint}It takes {signature}.")
        (arguments if name in named else further)[name] = definition.signature.read(name, text)
    for name, each in named.items():
        if each.default is each.empty and name not in arguments:
            raise ParameterBindError(
                f"{definition} needs a value for {name!r}: give -p {name}=... It takes {signature}."
            )
    return definition.signature.unbind(arguments if rest is None else {**arguments, rest: further})


_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _split(given: Iterable[str]) -> Iterator[tuple[str, str]]:
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ParameterBindError(f"-p {text!r} has no value: write -p KEY=VALUE.")
        if value.startswith("@@"):
            value = value[1:]
        elif value.startswith("@"):
            value = _contents(name, Path(value[1:]))
        yield name, value


def _contents(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterBindError(
            f"The value of {name!r} cannot be read from {path}: {error}. A value that itself begins with @ "
            f"is written with two: -p {name}=@@..."
        ) from error
