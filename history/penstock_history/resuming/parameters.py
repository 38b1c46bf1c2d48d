"""The parameters of a flow run, as its record keeps them: JSON that people can read, and the same values again.

::

    {"day": {"$type": "date", "value": "2026-11-21"}, "limit": 10, "frame": {"$type": "penstock.stored", "value": ...}}

Small values are typed JSON. What JSON cannot say, or not in few words, goes to the flow's result store, if the flow
stores results at all; nothing is written there unasked. What can be kept in neither place leaves the reason in its
place, and the run cannot be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from penstock.errors import ResumeConflict
from penstock.flow_runs import FlowRun
from penstock.wiring import open_store
from penstock_results.references import ResultReference
from penstock_results.serializers import serializer_named

__all__ = ("pack", "unpack")

_STORED, _MISSING = "penstock.stored", "penstock.missing"

_ITEMS, _TEXT = 1_000, 16 << 10
"""What a record keeps itself: about what people can still read, and 0.1 ms to look through."""


def pack(run: FlowRun) -> str:
    """Write down what a flow run was called with, before its function can change it; may block.

    Args:
        run: The run, its futures replaced by values.

    Returns:
        JSON text.
    """
    given = run.definition.signature.bind(run.args, run.kwargs)
    return orjson.dumps({name: _pack_one(run, name, value) for name, value in given.items()}).decode()


def unpack(text: str, run_id: object, storage: Any = None) -> dict[str, Any]:
    """The parameters by name, as they were given; may block.

    Args:
        text: What `pack` made.
        run_id: The run that they are of, for errors.
        storage: Where the flow keeps results: a `ResultStore` brings the credentials that no record keeps.

    Raises:
        ResumeConflict: If one of them was not kept, or is gone.
    """
    packed: Mapping[str, Any] = orjson.loads(text)
    return {name: _unpack_one(name, value, run_id, storage) for name, value in packed.items()}


def _pack_one(run: FlowRun, name: str, value: Any) -> Any:
    try:
        if _is_small(value) and (packed := _as_json(value)) is not None:
            return packed
        if not run.persists:
            return _missing(f"a {type(value).__qualname__} needs a place in the result store: persist_result=True")
        provenance = {"run": str(run.id), "name": run.name, "parameter": name}
        reference = open_store(run.results).write(value, provenance=provenance)
        return {"$type": _STORED, "value": reference.describe()}
    except Exception as error:  # whatever the value's own methods raise: the run goes on without
        return _missing(f"{type(error).__name__}: {error}")


def _missing(reason: str) -> Mapping[str, str]:
    return {"$type": _MISSING, "value": reason}


def _unpack_one(name: str, packed: Any, run_id: object, storage: Any) -> Any:
    kind = packed.get("$type") if isinstance(packed, dict) else None
    if kind == _MISSING:
        raise ResumeConflict(
            f"Run {run_id} cannot be resumed: its parameter {name!r} was not recorded ({packed['value']}). Call the "
            "flow anew."
        )
    if kind == _STORED:
        return _load(name, ResultReference(**packed["value"]), run_id, storage)
    return serializer_named("json").load([memoryview(orjson.dumps(packed))])


def _load(name: str, reference: ResultReference, run_id: object, storage: Any) -> Any:
    try:
        store = open_store(storage)
        return (store if store.url == reference.url else open_store(reference.url)).read(reference)
    except Exception as error:
        raise ResumeConflict(
            f"Run {run_id} cannot be resumed: its parameter {name!r} cannot be read back from the result store "
            f"({error}). Call the flow anew."
        ) from error


def _is_small(value: Any) -> bool:
    """Whether a value is no more than what a record keeps itself, found out without walking all of a large one."""
    items, text = _ITEMS, _TEXT
    pending = [value]
    while pending:
        item = pending.pop()
        items -= 1
        if isinstance(item, str | bytes | bytearray):
            text -= len(item)
        elif isinstance(item, dict):
            if len(item) > items:
                return False
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            if len(item) > items:
                return False
            pending += item
        if items < 0 or text < 0:
            return False
    return True


def _as_json(value: Any) -> orjson.Fragment | None:
    """Typed JSON, or None if the value has a type that nobody registered, or bytes in it."""
    frames = _Frames()
    try:
        serializer_named("json").dump(value, frames)
    except TypeError:
        return None
    return orjson.Fragment(bytes(frames.first)) if frames.count == 1 else None


class _Frames:
    """Keeps the first frame and counts the others."""

    def __init__(self) -> None:
        self.first = bytearray()
        self.count = 1

    def write(self, data: Any, /) -> int:
        if self.count == 1:
            self.first += data
        return len(data)

    def frame(self) -> None:
        self.count += 1
