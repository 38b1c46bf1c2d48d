"""What ran on a worker, inside an attempt of a run of this process: its records come home with the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock.identity import Kept
from penstock.states import StateType
from penstock.task_runs import TaskRun
from penstock_history.keys import int_of
from penstock_history.recording.lives import FLOW, NUMBERS, TASK, Life, result_row
from penstock_history.records import TYPES, Row
from penstock_results.references import ResultReference

__all__ = ("lives_of_visits",)


def lives_of_visits(
    run: TaskRun, records: Iterable[Mapping[str, Any]], add_state: Callable[[Row], None]
) -> Iterable[Life]:
    """What is to be recorded of runs inside an attempt.

    Args:
        run: The run whose attempt it was.
        records: Their transitions, in order.
        add_state: Called with each transition that needs a row of its own; see `Backlog.add_state`.
    """
    lives = dict[str, Life]()
    for record in records:
        life = lives.get(record["id"])
        if life is None:
            life = lives[record["id"]] = _begin(run, record)
        extra = _go_on(life, record, run.worker or None)
        if extra is not None:
            add_state((life.birth[0], *extra[:6], None, *extra[6:]))
        if record["kept"] is not None:
            life.rare.result = result_row(Kept(ResultReference(**record["kept"]), None, None, ()))
    return lives.values()


def _begin(run: TaskRun, record: Mapping[str, Any]) -> Life:
    parent = record["parent"]
    birth = (
        int_of(record["id"]),
        None if parent is None else int_of(parent),
        run.life.birth[2],
        TASK if "task" in record else FLOW,
        record["task"] if "task" in record else record["flow"],
        record["position"],
        list(record["tags"]) or None,
        record["timestamp"],
    )
    return Life(birth, record["name"])


def _go_on(life: Life, record: Mapping[str, Any], worker: str | None) -> Row | None:
    number, name = NUMBERS[StateType(record["state"])], record["state_name"]
    if name == TYPES[number].capitalize():
        name = None
    return life.go_on(number, name, record["message"], record["timestamp"], record["attempt"], worker, None)
