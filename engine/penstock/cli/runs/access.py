"""Getting at the history, and at the run that somebody means."""

from __future__ import annotations

import time  # noqa: TID251 (looking at a run again and again)
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

from penstock.cli.output import printable
from penstock.cli.words import iso, local_time
from penstock.errors import RunNotFound
from penstock_history.database import Reader, Writer
from penstock_history.history import History
from penstock_history.records import UNFINISHED, RunRecord

__all__ = ("facts_of", "has_ended", "reading", "the_run", "watch", "writing")

_PACE = 0.1
"""Seconds between two looks at a run. Its process lets rows gather as long before it writes them
(`penstock_history.recording.scribe`), so whoever looks more often sees nothing sooner."""


@contextmanager
def reading() -> Generator[Reader, None, None]:
    """Read the history; what processes that are dead left unfinished is marked as crashed first.

    Raises:
        HistoryError: If it cannot be read.
    """
    history = History()
    history.mark_the_dead()
    with closing(history.database.open_reader()) as reader:
        yield reader


@contextmanager
def writing() -> Generator[Writer, None, None]:
    """Change the history.

    Raises:
        HistoryError: If it cannot be written.
    """
    with closing(History().database.open_writer("full")) as writer:
        yield writer


def the_run(reader: Reader, text: str) -> RunRecord:
    """The one run that somebody means.

    The ids of one process begin alike. So where several runs fit that are all part of one, that one is meant.

    Raises:
        RunNotFound: If there is none, or more than one; lists those that it could be.
    """
    found = reader.find(text)
    if len(found) == 1:
        return found[0]
    roots = {run.root for run in found}
    if len(roots) == 1 and (root := reader.run(roots.pop())) in found:
        assert root is not None, "it has been found"
        return root
    if not found:
        raise RunNotFound(
            f"No run has the id {text!r}, an id that begins or ends like that, or that name. See: penstock runs ls"
        )
    listed = "".join(
        f"\n  {run.id}  {local_time(run.created)}  {printable(run.definition)}  {printable(run.name)}"
        for run in sorted(found, key=lambda run: run.parent is not None)[:10]
    )
    raise RunNotFound(f"{text!r} could be any of {len(found)} runs; give more of the id:{listed}")


def has_ended(run: RunRecord) -> bool:
    """Whether a run has its last state."""
    return run.type not in UNFINISHED


def watch(reader: Reader, run: RunRecord) -> Iterator[RunRecord]:
    """A run as it is now, and after every moment as it is then, for as long as it is there and somebody asks.

    Its process shares nothing with this one but the history, and what is written there wakes nobody.
    """
    current: RunRecord | None = run
    while current is not None:
        yield current
        time.sleep(_PACE)
        current = reader.run(run.id)


def facts_of(run: RunRecord) -> dict[str, Any]:
    """What programs are told of a run."""
    return {
        "id": str(run.id),
        "kind": run.kind,
        "name": run.name,
        run.kind: run.definition,
        "state": run.state,
        "type": run.type,
        "message": run.message,
        "tags": list(run.tags),
        "created": iso(run.created),
        "started": iso(run.started),
        "ended": iso(run.ended),
        "attempts": run.attempts,
        "parent": None if run.parent is None else str(run.parent),
        "root": str(run.root),
        "worker": run.worker,
        "cached": run.cached,
        "result": None if run.result is None else dict(run.result),
        "entrypoint": run.entrypoint,
        "parameters": None if run.parameters is None else _parsed(run.parameters),
        "version": run.version,
        "resumes": None if run.resumes is None else str(run.resumes),
        "resumed_by": None if run.resumed_by is None else str(run.resumed_by),
    }


def _parsed(parameters: str) -> Any:
    import json

    return json.loads(parameters)
