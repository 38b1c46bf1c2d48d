"""What other processes do with a history in its tests."""

from __future__ import annotations

from uuid import UUID

from penstock_history.database import Writer
from penstock_history.testing.probes import Story

LIFE = 25
"""Transitions of each run."""


def live(writer: Writer, transitions: int, per_group: int) -> list[UUID]:
    """Record runs that are tried again and again, a few transitions at a time; give their ids."""
    story = Story(writer)
    runs: list[UUID] = []
    for _ in range(transitions // LIFE):
        run = story.begin(sequence=1, type="PENDING", state="Pending", started=None)
        runs.append(run.id)
        for sequence in range(2, LIFE + 1):
            last = sequence == LIFE
            type_ = "COMPLETED" if last else "RUNNING" if sequence % 2 == 0 else "SCHEDULED"
            story.group.changes[:] = []  # one row for the latest is enough
            change = story.end(
                run, type_, sequence=sequence, started=run.created, ended=run.created + LIFE if last else None
            )
            assert change.sequence == sequence
            if not last:
                story.state(run, sequence, type_, attempt=sequence // 2)
            if last or sequence % per_group == 0:
                story.write()
    return runs


def write_for_ever(writer: Writer, ready: str) -> None:
    """Write groups until the process is killed; a line in a file for each that is committed."""
    story = Story(writer)
    with open(ready, "a") as lines:
        while True:
            run = story.done()
            story.write()
            print(run.id, file=lines, flush=True)
