"""``penstock runs``: what is listed, shown, followed and cancelled."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from datetime import UTC, datetime

import pytest

from penstock.cli.exits import Exit


def test_flow_runs_are_listed_newest_first(recorded) -> None:
    runs = recorded("runs", "ls", "--json").json
    assert [(run["flow"], run["state"]) for run in runs] == [
        ("squares", "Completed"),
        ("wobbly", "Failed"),
        ("squares", "Completed"),
    ]
    assert {"id", "name", "flow", "state"} <= runs[0].keys()
    created = [datetime.fromisoformat(run["created"]) for run in runs]
    assert created == sorted(created, reverse=True)
    assert runs[0]["parameters"] == {"n": 2}
    lines = recorded("runs", "ls").out.splitlines()
    assert lines[0].split() == ["STATE", "FLOW", "NAME", "CREATED", "TOOK", "TAGS", "ID"]
    assert [line.split()[-1] for line in lines[1:]] == [run["id"] for run in runs]


@pytest.mark.parametrize(
    ("options", "flows"),
    [
        (["--state", "failed"], ["wobbly"]),
        (["--state", "FAILED", "--state", "Completed", "--limit", "2"], ["squares", "wobbly"]),
        (["--flow", "squares"], ["squares", "squares"]),
        (["--tag", "nightly", "--since", "1h"], ["squares", "squares"]),
        (["--tag", "daily"], []),
        (["--since", "2999-01-01"], []),
    ],
)
def test_filters(options: list[str], flows: list[str], recorded) -> None:
    assert [run["flow"] for run in recorded("runs", "ls", "--json", *options).json] == flows


def test_a_run_is_shown_with_what_happened_inside(recorded) -> None:
    (run,) = recorded("runs", "ls", "--json", "--flow", "wobbly").json
    shown = recorded("runs", "show", run["name"], "--json").json
    assert shown["id"] == run["id"]
    assert [state["name"] for state in shown["states"]] == ["Pending", "Running", "Failed"]
    assert len(shown["children"]) == 20
    (failed,) = [child for child in shown["children"] if child["state"] == "Failed"]
    assert failed["attempts"] == 2
    said = recorded("runs", "show", run["id"]).out
    assert "three is too many" in said
    assert "20 of shaky" in said
    assert "19 Completed, 1 Failed" in said
    assert f"{failed['name']} (2 attempts)" in said
    assert said.count("shaky-") == 1
    assert recorded("runs", "show", run["id"], "--all").out.count("shaky-") == 20
    task = recorded("runs", "show", failed["id"]).out
    assert "ATTEMPT" in task
    assert "Retrying" in task


def test_cache_hits_are_shown(recorded) -> None:
    newest = recorded("runs", "ls", "--json", "--limit", "1").json[0]
    assert "2 of 3 runs inside found their values in the result store" in recorded("runs", "show", newest["id"]).out
    shown = recorded("runs", "show", newest["id"], "--json").json
    assert sorted(child["state"] for child in shown["children"]) == ["Cached", "Cached", "Completed"]


def test_runs_are_found_by_parts_of_their_id_and_by_name(recorded) -> None:
    runs = recorded("runs", "ls", "--json").json
    wanted = runs[0]
    for text in (wanted["id"], wanted["id"][:-4], wanted["id"][-20:], wanted["name"], wanted["id"].upper()):
        answer = recorded("runs", "logs", text)
        assert answer.code == Exit.DONE or "could be any of" in answer.err
    assert recorded("runs", "logs", wanted["id"]).code == Exit.DONE
    answer = recorded("runs", "show", wanted["id"][:4])
    assert answer.code == Exit.NOT_FOUND
    assert "could be any of" in answer.err
    assert all(run["id"] in answer.err for run in runs[:2])
    answer = recorded("runs", "show", "no-such-run")
    assert answer.code == Exit.NOT_FOUND
    assert "See: penstock runs ls" in answer.err


def test_the_log_of_a_run(recorded) -> None:
    newest = recorded("runs", "ls", "--json", "--limit", "1").json[0]
    lines = [json.loads(line) for line in recorded("runs", "logs", "--json", newest["id"]).out.splitlines()]
    assert any("squaring 2 numbers" in line["message"] for line in lines)
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    said = recorded("runs", "logs", newest["name"]).out.splitlines()
    assert len(said) == len(lines)
    assert any(line[13:].startswith("| INFO    | ") and line.endswith("squaring 2 numbers") for line in said)


def test_a_log_is_followed_until_the_run_ends(penstock, flows) -> None:
    stop = penstock.home / "stop"
    with penstock.start("run", flows("orderly"), "-p", f"path={stop}") as process:
        assert process.stdout.readline() == "began\n"
        name = _the_only_run(penstock)["name"]
        with penstock.start("runs", "logs", "-f", name) as follower:
            seen = [follower.stdout.readline() for _ in range(5)]
            assert sum("still waiting" in line for line in seen) >= 3
            stop.touch()
            rest, err = follower.communicate(timeout=30)
        process.communicate(timeout=30)
    assert follower.returncode == Exit.DONE, err
    assert "Finished in state Completed()" in rest.splitlines()[-1]


@pytest.mark.parametrize("target", ["waiting", "blocking"])
def test_a_run_in_another_process_is_cancelled(target: str, penstock, flows) -> None:
    with penstock.start("run", flows(target), "-p", "seconds=20") as process:
        assert process.stdout.readline() == "began\n"
        run = _the_only_run(penstock)
        assert run["state"] == "Running"
        patience = "20s" if target == "waiting" else "1s"
        answer = penstock("runs", "cancel", run["id"], "--wait", patience)
        if target == "blocking":  # a function in the main thread cannot be interrupted, and that is said
            assert answer.code == Exit.FAILED
            assert "has not ended within 1 s" in answer.err
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    if target == "waiting":
        assert answer.code == Exit.DONE, answer
        assert answer.out.startswith("Cancelled")
        assert process.returncode == Exit.FAILED
        assert "cleaned up" in out
    assert _the_only_run(penstock)["type"] == "CANCELLED"
    answer = penstock("runs", "cancel", run["id"])
    assert answer.code == Exit.REFUSED
    assert "had ended already" in answer.err


def test_what_a_dead_process_left_is_marked_and_readable(penstock, flows) -> None:
    with penstock.start("run", flows("blocking")) as process:
        assert process.stdout.readline() == "began\n"
        _the_only_run(penstock)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
    run = _the_only_run(penstock)
    assert run["type"] == "CRASHED"
    assert "owner_lost" in run["message"]
    assert penstock("runs", "show", run["id"]).code == Exit.DONE
    assert penstock("runs", "cancel", run["id"]).code == Exit.REFUSED


def test_a_history_that_cannot_be_read_says_so(penstock) -> None:
    database = penstock.home / "history.db"
    database.write_bytes(b"this is no database" * 1000)
    for arguments in (("runs", "ls"), ("runs", "show", "x"), ("history", "info")):
        answer = penstock(*arguments)
        assert answer.code == Exit.UNUSABLE, answer
        assert str(database) in answer.err
        assert "Traceback" not in answer.err
    database.unlink()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE somebody_elses (x)")
    answer = penstock("runs", "ls")
    assert answer.code == Exit.UNUSABLE
    assert "not a history" in answer.err


def test_a_history_with_nothing_in_it(penstock) -> None:
    assert penstock("runs", "ls", "--json").json == []
    assert penstock("history", "info", "--json").json["flow_runs"] == 0
    assert not (penstock.home / "history.db").exists()
    assert "Try: penstock run" in penstock.on_terminal("runs", "ls")


def _the_only_run(penstock):
    """The run, once it is recorded."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if runs := penstock("runs", "ls", "--json").json:
            assert datetime.fromisoformat(runs[0]["created"]) <= datetime.now(UTC)
            return runs[0]
    raise AssertionError("the run is not recorded")
