"""Which of the functions that a flow is made of are not what they were."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import FunctionType
from typing import Any

from penstock.definitions import Definition
from penstock.errors import UnhashableInput
from penstock.flows import Flow
from penstock.identity import code_of
from penstock_results.code_identity import references

__all__ = ("changed_since", "code_or_none")


def code_or_none(definition: Definition[..., Any]) -> str | None:
    """A digest of a definition's code, or None if there can be none."""
    try:
        return code_of(definition)
    except UnhashableInput:
        return None


def changed_since(flow: Flow[..., Any], recorded: Mapping[str, AbstractSet[str | None]]) -> str:
    """Name what has changed, as well as that can be told.

    Args:
        flow: The flow as it is now.
        recorded: The digests of code that were recorded, by the names of flows and tasks.
    """
    now = {definition.name: definition for definition in _definitions_in(flow)}
    changed = sorted(
        str(now[name]) for name, codes in recorded.items() if name in now and code_or_none(now[name]) not in codes
    )
    gone = sorted(f"{name!r}, which is not called any more" for name in recorded.keys() - now.keys())
    return " and ".join((*changed, *gone)) or f"{flow}, or a function or value that it refers to"


def _definitions_in(flow: Flow[..., Any]) -> list[Definition[..., Any]]:
    """The flows and tasks that a flow's code refers to, directly or through functions, itself not counted."""
    found: dict[int, Definition[..., Any]] = {}
    seen: set[int] = set()
    pending: list[Any] = [flow]
    while pending:
        value = pending.pop()
        function = value.fn if isinstance(value, Definition) else value
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        if isinstance(value, Definition) and value is not flow:
            found[id(value)] = value
        pending += references(function)
    return list(found.values())
