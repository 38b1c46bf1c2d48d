"""What a history still knows when the power was cut: ``full`` all that was acknowledged, ``fast`` all but the newest.

The work is the real one: tables are made, groups written, the log is brought into the file, runs are deleted and the
file is made smaller. It is done once for each durability; then the power is cut at many points of it (a thousand behind
`make chaos`), and what is on the disk must be what some beginning of the work leads to, up to the right point.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from apsw_histories import use_apsw
from power import Disk, Recorder, Step, forget, write_files

from penstock_history.database import Durability
from penstock_history.records import RunQuery
from penstock_history.sqlite import file as sqlite_file
from penstock_history.sqlite.database import SQLite
from penstock_history.testing.probes import Story, reading

GROUPS = 60
TASKS = 7
SESSION = 20
"""Groups that a process writes before it ends and another one begins."""

State = dict[str, tuple[int, int]]
"""The flow runs that are there, each with how many task runs and log lines are inside."""


def work(path: Path, durability: Durability, recorder: Recorder) -> list[list[State]]:
    """Record flow runs, each in one group with its task runs, and delete some; give the states that each step makes."""
    state: State = {}
    steps: list[list[State]] = [[state]]
    for session in range(GROUPS // SESSION):
        writer = SQLite(path).open_writer(durability)
        story = Story(writer)
        for number in range(SESSION):
            root = story.flow(story.done(name=f"{session}-{number}", tags=("t",)), entrypoint="a:b")
            for position in range(TASKS):
                story.log(story.done(inside=root, position=position, message="m" * 300), "a line")
            story.write()
            recorder.say("acknowledged")
            state = {**state, root.name: (TASKS, TASKS)}
            steps.append([state])
            if number % 4 == 3:
                writer.delete([root.id])
                recorder.say("acknowledged")
                halves = [{**state, root.name: inside} for inside in ((TASKS, 0), (0, 0))]
                state = {name: inside for name, inside in state.items() if name != root.name}
                steps.append([*halves, state])
                writer.compact()
        writer.close()
    return steps


def cut(steps: list[Step], count: int, folder: Path) -> Iterator[tuple[int, State | str]]:
    """Cut the power at so many points; give how much was acknowledged by then, and the state that is found after."""
    chance = random.Random(len(steps))
    points = sorted(chance.choices(range(len(steps) + 1), k=count))
    disk, done, acknowledged = Disk(chance), 0, 0
    for point in points:
        for step in steps[done:point]:
            disk.take(step)
            acknowledged += step.kind == "acknowledged"
        done = point
        yield acknowledged, examine(folder, disk.after_the_cut())


def examine(folder: Path, files: dict[str, bytearray]) -> State | str:
    """The state of a history whose files were found like this, or what is wrong with it."""
    write_files(folder, files)
    path = folder / "history.db"
    try:
        with reading(SQLite(path)) as reader:
            state = {
                run.name: (len(list(reader.inside(run.id))), len(reader.logs(run.id)))
                for run in reader.runs(EVERYTHING)
            }
        connection = sqlite3.connect(path)
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
    except Exception as error:  # damaged rows may fail anywhere
        return f"cannot be read: {error}"
    finally:
        forget(folder)
    return state if answer == "ok" else answer


EVERYTHING = RunQuery(limit=None)


def losses(durability: Durability, promise: Durability, count: int, tmp_path: Path, patch: pytest.MonkeyPatch) -> int:
    """How many of so many cuts break a promise when a history is written with some durability."""
    patch.setattr(sqlite_file, "_LOG", 100_000)
    recorder = Recorder(f"power-{durability}")
    with patch.context() as only_here:
        use_apsw(only_here, recorder.name)
        states = work(tmp_path / "work" / "history.db", durability, recorder)
    assert {step.kind for step in recorder.steps} >= {"write", "truncate", "delete", "acknowledged"}
    broken = 0
    for acknowledged, found in cut(recorder.steps, count, tmp_path / "cut"):
        known = [states[acknowledged][-1:]] if promise == "full" else states[: acknowledged + 1]
        allowed = [state for step in (*known, *states[acknowledged + 1 : acknowledged + 2]) for state in step]
        broken += found not in allowed
    return broken


@pytest.mark.parametrize("durability", ["full", "fast"])
def test_a_power_cut_breaks_no_promise(durability: Durability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert losses(durability, durability, 50, tmp_path, monkeypatch) == 0


@pytest.mark.chaos
@pytest.mark.parametrize("durability", ["full", "fast"])
def test_a_thousand_power_cuts_break_no_promise(
    durability: Durability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert losses(durability, durability, 1_000, tmp_path, monkeypatch) == 0


@pytest.mark.parametrize(("durability", "promise"), [("fast", "full"), ("none", "fast")])
def test_a_promise_that_is_not_kept_is_noticed(
    durability: Durability, promise: Durability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert losses(durability, promise, 50, tmp_path, monkeypatch) > 0
