"""What the records of a flow run say, and of those that it continued: what is done, and what was interrupted.

The runs that were continued one after the other are a *chain*, the first of them the oldest. What is done is what any
of them has completed. Of what was interrupted the newest record counts, where it had begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from penstock.identity import Kept, Path
from penstock_history.database import Reader
from penstock_history.records import RunRecord, StateRecord
from penstock_history.resuming.frontier import Frontier, Interrupted, whatever_the_order
from penstock_results.references import ResultReference

__all__ = ("Generation", "chain_of", "frontier_of", "read_generation")

Generation = Mapping[Path, Sequence[RunRecord]]
"""One run of a chain with the runs inside it, by their paths; several at a path, if the flow had tried again."""

_BY_ITSELF = ("COMPLETED", "FAILED", "SKIPPED")
"""How runs end that nobody interrupts."""


def chain_of(reader: Reader, record: RunRecord) -> list[RunRecord]:
    """The chain that a run belongs to, the oldest first."""
    chain = [record]
    while (oldest := chain[0]).resumes is not None and (before := reader.run(oldest.resumes)) is not None:
        chain.insert(0, before)
    while (newest := chain[-1]).resumed_by is not None and (after := reader.run(newest.resumed_by)) is not None:
        chain.append(after)
    return chain


def read_generation(reader: Reader, root: RunRecord) -> Generation:
    """Read a flow run and all that ran inside it."""
    paths: dict[UUID, Path] = {root.id: ()}
    generation: dict[Path, list[RunRecord]] = {(): [root]}
    for record in reader.inside(root.id):
        around = paths.get(record.parent) if record.parent is not None else None
        if around is not None:
            path = paths[record.id] = (*around, (record.definition, record.position))
            generation.setdefault(path, []).append(record)
    return generation


def frontier_of(reader: Reader, chain: Sequence[Generation], code: str | None) -> Frontier:
    """What a run that continues a chain need not do again, and where it goes on.

    Args:
        reader: Tells the transitions of what was interrupted.
        chain: What was recorded, the oldest first.
        code: A digest of the flow's code as it is now. What rests on the order of calls counts only if it was recorded
            under the same code.
    """
    interrupted: dict[Path, Interrupted] = {}
    done: list[Iterable[Kept]] = []
    for generation in chain:
        (root,) = generation[()]
        same_code = code is not None and root.code == code
        kept = _kept_in(generation)
        done.insert(0, kept if same_code else whatever_the_order(kept))
        if same_code:
            _go_over(reader, generation, interrupted)
        else:
            interrupted.clear()
    return Frontier(done, interrupted)


def _kept_in(generation: Generation) -> Iterator[Kept]:
    for path, records in generation.items():
        for record in reversed(records):
            if record.type == "COMPLETED" and record.result is not None:
                yield Kept(ResultReference(**record.result), record.inputs, record.code, path)


def _go_over(reader: Reader, generation: Generation, interrupted: dict[Path, Interrupted]) -> None:
    """Bring what was interrupted up to what a newer run of the chain has done about it."""
    end = _last_sign_of_life(generation)
    for path, records in generation.items():
        record = records[-1]
        if record.type in _BY_ITSELF:
            interrupted.pop(path, None)
        elif record.attempts:
            before = interrupted.get(path)
            interrupted[path] = _interruption(record, reader.states(record.id), end, before)


def _interruption(
    record: RunRecord, states: Sequence[StateRecord], end: float, before: Interrupted | None
) -> Interrupted:
    under_way = [state for state in states if state.type not in ("CRASHED", "CANCELLED")]
    last, running = under_way[-1], [state for state in under_way if state.type == "RUNNING"]
    used = max(0.0, end - running[-1].time) if running and record.kind == "flow" else 0.0
    if before is not None and len(running) <= 1:
        used += before.used  # it was still at the attempt that the run before it had begun
    return Interrupted(record.attempts, last.due, used)


def _last_sign_of_life(generation: Generation) -> float:
    """When something last happened in a flow run; that it was found dead happened later, to it."""
    (root,) = generation[()]
    found_dead = root.ended if root.type == "CRASHED" else None
    times = [
        time
        for records in generation.values()
        for record in records
        for time in (record.created, record.started, record.ended)
        if time is not None and time != found_dead
    ]
    return max(times)
