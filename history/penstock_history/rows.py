"""From rows to the records of a history, whichever database they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from penstock_history.records import TYPES, RunRecord, StateRecord

__all__ = ("run_record", "state_record")

_RESULT = ("url", "key", "size", "type", "checksum")
"""The fields of `ResultReference.describe`."""


def run_record(
    row: Sequence[Any],
    tags: Sequence[str] | None,
    id_of: Callable[[int], UUID],
    owner: int,
    resumed_by: UUID | None,
) -> RunRecord:
    """Make a record of a run's row.

    Args:
        row: ``id``, ``created``, ``parent``, ``root``, ``kind``, ``name``, ``definition``, ``position``, ``tags``; the
            columns of `records.CHANGES` from ``sequence`` to ``seconds``; those of `records.FLOWS` after ``run``; those
            of `records.RESULTS` after ``run``, without ``code``.
        tags: The run's tags.
        id_of: Gives the id of a run by its key.
        owner: The process that ran it.
        resumed_by: The run that continues it.
    """
    key, created, parent, root, kind, name, definition, position, _, *rest = row
    sequence, number, state, message, started, ended, attempts, worker, seconds, *rest = rest
    entrypoint, parameters, code, version, resumes, *rest = rest
    *stored, inputs, cached = rest
    return RunRecord(
        id=id_of(key),
        kind="task" if kind else "flow",
        name=name,
        definition=definition,
        parent=None if parent is None else id_of(parent),
        root=id_of(root),
        position=position,
        state=_state_name(number, state),
        type=TYPES[number],
        message=message,
        tags=tuple(tags or ()),
        created=created,
        started=started,
        ended=ended,
        sequence=sequence,
        attempts=attempts,
        worker=worker,
        seconds=seconds,
        owner=owner,
        entrypoint=entrypoint,
        parameters=parameters,
        code=code,
        version=version,
        resumes=None if resumes is None else UUID(resumes),
        resumed_by=resumed_by,
        result=dict(zip(_RESULT, stored, strict=True)) if stored[0] is not None else None,
        inputs=inputs,
        cached=bool(cached),
    )


def state_record(row: Sequence[Any]) -> StateRecord:
    """Make a record of a transition's row, which has the columns of `records.STATES` after ``run``."""
    sequence, number, name, *rest = row
    return StateRecord(sequence, TYPES[number], _state_name(number, name), *rest)


def _state_name(number: int, name: str | None) -> str:
    """What people call a state: the type's own name, unless it has another."""
    return name or TYPES[number].capitalize()
