"""What tells a run from the others in its flow, in this process and in one that continues the flow later.

A run's *identity* is a digest of who called it (the caller's identity), the name of its definition, and its arguments.
The order of calls is no part of it, so a flow that starts its tasks in another order finds their results all the same.
Where an argument has no canonical form (a client, a lock) its type's name counts and the run's position among its
siblings does: such an identity starts with ``~``, is *vague*, and means nothing once the code has changed that makes
the calls. A run's *path* is where it stands: the names and positions of the runs around it, and its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from weakref import WeakKeyDictionary

from penstock.errors import UnhashableInput

if TYPE_CHECKING:
    from penstock.definitions import Definition
    from penstock.flow_runs import FlowRun
    from penstock.records import Run
    from penstock.task_runs import TaskRun
    from penstock_results.references import ResultReference

__all__ = ("Kept", "Path", "code_of", "identity_of", "is_vague", "path_of")

Path: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that has completed, and whose value is stored.

    Attributes:
        reference: Where the value lies.
        identity: Which run it was; None if nobody will ask.
        code: A digest of its code; None if none can be made.
        path: Where the run stood.
        found: Whether the value was found and not made.
    """

    reference: ResultReference
    identity: str | None
    code: str | None
    path: Path
    found: bool = False


def identity_of(run: Run) -> str:
    """A run's identity; to be asked for the first time before the run's function can change its arguments.

    Args:
        run: The run; the values of its arguments have to be there.
    """
    if run.identity is None:
        run.identity = _identify(run)
    return run.identity


def is_vague(identity: str) -> bool:
    """Whether an identity rests on the order of calls."""
    return identity.startswith("~")


def path_of(run: Run) -> Path:
    """Where a run stands in its root flow run."""
    path: list[tuple[str, int]] = []
    while run.parent is not None:
        path.append((run.definition.name, run.position))
        run = run.parent
    return tuple(reversed(path))


def code_of(definition: Definition[..., Any]) -> str:
    """A digest of a definition's code and of all that it refers to, as it was when this process first asked.

    Args:
        definition: A flow or task.

    Raises:
        UnhashableInput: If the function is bound to something that has no canonical form.
    """
    from penstock_results.keys import code_identity

    function = definition.fn
    if not isinstance(function, FunctionType):
        return code_identity(function)
    known = _codes.get(function)
    if known is None:
        known = _codes[function] = code_identity(function)
    return known


_codes: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()


def _identify(run: Run) -> str:
    from penstock_results.keys import hash_value

    if run.parent is None:
        return ""  # what continues a run, continues it with the same parameters
    around = identity_of(run.parent)
    parameters = cast("FlowRun | TaskRun", run).parameters
    arguments = {name: _digest(name, value) for name, value in parameters.items()}
    vague = is_vague(around) or any(is_vague(digest) for digest in arguments.values())
    digest = hash_value((around, run.definition.name, arguments, run.position if vague else None))
    return f"~{digest}" if vague else digest


def _digest(name: str, value: object) -> str:
    from penstock_results.keys import hash_value

    try:
        return hash_value(value, name=name)
    except UnhashableInput:
        return f"~{type(value).__module__}.{type(value).__qualname__}"
