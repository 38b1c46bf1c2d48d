"""A flow run's parameters, on the workers that have its tasks.

They travel beside the facts that all its task runs share, pickled once for the flow run, and a worker makes them
again when somebody asks. Most are a date or a path; tasks get what is large as arguments. So what is large stays at
home here, as does what cannot be pickled, and only whoever asks for it is told so.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from penstock.errors import SerializationError
from penstock.ports import FlowParameters
from penstock_runners import pickling

__all__ = ("LIMIT", "pack", "unpack")

# Bytes of all parameters together: every batch carries them.
LIMIT = 16 * 1024

_packed: WeakKeyDictionary[FlowParameters, bytes] = WeakKeyDictionary()


def pack(parameters: FlowParameters) -> bytes:
    """Pickle the parameters of a flow run, once in its life; what cannot travel is replaced by the reason."""
    packed = _packed.get(parameters)
    if packed is None:
        room, content = LIMIT, dict[str, bytes | str]()
        for name, value in parameters.values.items():
            content[name] = made = _pack_one(value, room)
            room -= len(made)
        packed = _packed[parameters] = pickle.dumps(content, 5)
    return packed


def _pack_one(value: Any, room: int) -> bytes | str:
    try:
        return pickling.dumps_within(value, room)
    except pickling.TooLarge:
        return f"the parameters that travel with tasks may have {LIMIT:,} bytes together, and this one makes it more"
    except Exception as error:  # whatever the value's own reduction raises
        return f"{type(error).__name__}: {error}"[:200]


@lru_cache(maxsize=64)
def unpack(flow_run: int, packed: bytes) -> Mapping[str, Any]:
    """The parameters of the flow run with that key again, made once in a worker; values are never shared by runs."""
    return _Parameters(pickle.loads(packed))


class _Parameters(Mapping[str, Any]):
    """Parameters by name, each made when it is asked for."""

    def __init__(self, packed: Mapping[str, bytes | str]) -> None:
        self._packed = packed
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            packed = self._packed[name]
            if isinstance(packed, str):
                raise SerializationError(
                    f"the flow's parameter `{name}` did not come along to this worker: {packed}. "
                    "Pass what the task needs of it as an argument."
                )
            self._made[name] = pickle.loads(packed)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __repr__(self) -> str:
        return repr({name: "(stayed at home)" if isinstance(self._packed[name], str) else self[name] for name in self})
