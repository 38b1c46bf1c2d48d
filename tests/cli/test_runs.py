"""``penstock runs``: what is listed, shown, followed and cancelled."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from datetime import UTC, date, datetime

import pytest

from penstock import Engine, flow
from penstock.cli.exits import Exit
from penstock.history import History
from penstock.testing import VirtualClock, wait_until


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


def test_since_a_moment(recorded) -> None:
    newest, before, *_ = recorded("runs", "ls", "--json").json
    assert recorded("runs", "ls", "--json", "--since", before["ended"]).json == [newest]


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
    assert re.search(rf"^parent +{run['id']}$", task, re.MULTILINE)
    assert recorded("runs", "show", failed["id"], "--json").json["children"] == []


def test_parameters_are_shown_as_somebody_would_write_them(penstock) -> None:
    @flow(persist_result=True)
    def report(day: date, names: list[str], large: bytes) -> None:
        pass

    @flow
    def forgetful(large: bytes) -> None:
        pass

    with Engine(history=History(penstock.home / "history.db"), results=penstock.home / "results"):
        report(date(2026, 11, 21), ["a", "b"], b"x" * 100_000)
        forgetful(b"x")
    forgot, kept = penstock("runs", "ls", "--json").json
    shown = penstock("runs", "show", kept["id"]).out
    assert re.search(r'^parameters +day=2026-11-21, names=\["a", "b"\], large=\(a stored bytes\)$', shown, re.MULTILINE)
    assert "large=(not recorded)" in penstock("runs", "show", forgot["id"]).out


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
    printed = [*seen, *rest.splitlines(keepends=True)]
    assert len(set(printed)) == len(printed)


def test_a_log_in_which_nothing_is_new_is_not_printed_again(penstock, flows) -> None:
    with penstock.start("run", flows("waiting"), "-p", "seconds=1") as process:
        assert process.stdout.readline() == "began\n"
        printed = penstock("runs", "logs", "-f", _the_only_run(penstock)["id"]).out.splitlines()
        process.communicate(timeout=30)
    assert "beginning to wait" in printed[1]
    assert "Finished in state Completed()" in printed[-1]
    assert len(set(printed)) == len(printed)


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
    elsewhere = str(penstock.home / "misspelt.db")
    answer = penstock.given(PENSTOCK_HISTORY=elsewhere)("runs", "ls")
    assert answer.out.split() == ["STATE", "FLOW", "NAME", "CREATED", "TOOK", "TAGS", "ID"]
    assert elsewhere in answer.err
    assert "PENSTOCK_HISTORY names another" in answer.err


def _the_only_run(penstock):
    """The run, once it is recorded that it runs: what happens is written in groups, a moment later."""
    runs = []

    def is_there():
        runs[:] = penstock("runs", "ls", "--json").json
        return bool(runs) and runs[0]["type"] != "PENDING"

    wait_until(is_there, "the run to be recorded")
    (run,) = runs
    assert datetime.fromisoformat(run["created"]) <= datetime.now(UTC)
    return run


def test_runs_are_deleted_with_what_is_theirs(penstock, flows) -> None:
    for number in (2, 3):
        assert penstock("run", flows("squares"), "-p", f"n={number}").code == Exit.DONE
    newer, older = penstock("runs", "ls", "--json").json
    stored = [facts["key"] for facts in penstock("results", "ls", "--json").json if facts["type"] == "int"]
    assert len(stored) == 3
    (part, *_) = penstock("runs", "show", older["id"], "--json").json["children"]
    for arguments, code, message in (
        ((), Exit.USAGE, "Name the runs to delete, or give"),
        ((older["id"], "--keep", "1"), Exit.USAGE, "Name the runs to delete, or give"),
        (("--older-than", "long"), Exit.USAGE, "'long' is no length of time"),
        (("--max-size", "huge"), Exit.USAGE, "'huge' is no size"),
        ((part["id"],), Exit.REFUSED, f"is a part of run {older['id']}"),
        (("nobody",), Exit.NOT_FOUND, "nobody"),
    ):
        answer = penstock("runs", "rm", *arguments)
        assert answer.code == code, answer
        assert message in answer.err
    would = penstock("runs", "rm", "--keep", "1", "--dry-run", "--json").json
    assert would == {"roots": [older["id"]], "dry_run": True}
    assert older["id"] in penstock("runs", "rm", "--keep", "1", "--dry-run").out
    assert penstock("runs", "rm", "--older-than", "1h", "--json").json["runs"] == 0
    assert len(penstock("runs", "ls", "--json").json) == 2
    gone = penstock("runs", "rm", newer["id"], "--json").json
    assert (gone["roots"], gone["runs"]) == ([newer["id"]], 5)
    assert gone["values"] == 2  # what the other run had stored before is still that one's
    left = [facts["key"] for facts in penstock("results", "ls", "--json").json if facts["type"] == "int"]
    assert len(left) == 2
    assert [run["id"] for run in penstock("runs", "ls", "--json").json] == [older["id"]]
    assert penstock("runs", "rm", "--keep", "0").out.startswith("Deleted 4 runs")
    assert penstock("runs", "ls", "--json").json == []


def test_what_is_old_or_too_much_is_deleted(penstock, flows) -> None:
    @flow
    def old() -> None:
        pass

    with Engine(history=History(penstock.home / "history.db"), clock=VirtualClock()):
        old()  # in November 2023
    assert penstock("run", flows("squares")).code == Exit.DONE
    assert [run["flow"] for run in penstock("runs", "ls", "--json", "--since", "300d").json] == ["squares"]
    assert penstock("runs", "rm", "--older-than", "300d", "--json").json["runs"] == 1
    assert [run["flow"] for run in penstock("runs", "ls", "--json").json] == ["squares"]
    assert penstock("runs", "rm", "--max-size", "1GB", "--json").json["runs"] == 0
    assert penstock("runs", "rm", "--max-size", "1kB", "--json").json["runs"] == 5
    assert penstock("runs", "ls", "--json").json == []


def test_a_run_that_goes_on_is_not_deleted(penstock, flows) -> None:
    with penstock.start("run", flows("waiting")) as process:
        assert process.stdout.readline() == "began\n"
        run = _the_only_run(penstock)
        _, line = penstock("runs", "ls").out.splitlines()
        assert re.split(" {2,}", line)[4] != "0 ms"
        answer = penstock("runs", "rm", run["name"])
        assert answer.code == Exit.REFUSED
        assert f"penstock runs cancel {run['id']}" in answer.err
        assert penstock("runs", "resume", run["id"]).code == Exit.REFUSED
        assert penstock("runs", "rm", "--keep", "0", "--json").json["runs"] == 0


def test_a_failed_run_is_resumed_without_doing_anything_twice(penstock, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "from pathlib import Path\n"
        "from penstock import flow, task\n"
        "@task\n"
        "def once(x: int) -> int:\n"
        "    with open('executed', 'a') as file:\n"
        "        file.write(f'{x}\\n')\n"
        "    return x\n"
        "@flow(persist_result=True)\n"
        "def job(n: int) -> int:\n"
        "    total = sum(once.map(range(n)).result())\n"
        "    return total + int(Path('more').read_text())\n"
    )
    assert penstock("run", "job.py:job", "-p", "n=5", cwd=tmp_path).code == Exit.FAILED
    failed = _the_only_run(penstock)
    (tmp_path / "more").write_text("100")
    resumed = penstock("runs", "resume", failed["name"], "--json", cwd=tmp_path).json
    assert (resumed["result"], resumed["state"]) == (110, "Completed")
    assert sorted((tmp_path / "executed").read_text().split()) == list("01234")
    shown = penstock("runs", "show", resumed["id"], "--json").json
    assert shown["resumes"] == failed["id"]
    answer = penstock("runs", "resume", failed["id"], cwd=tmp_path)
    assert answer.code == Exit.REFUSED
    assert "has completed" in answer.err
    assert answer.out == ""
    job = (tmp_path / "job.py").read_text()
    assert penstock("run", "job.py:job", "-p", "n=x", cwd=tmp_path).code == Exit.USAGE
    (tmp_path / "more").write_text("much")
    assert penstock("run", "job.py:job", "-p", "n=2", cwd=tmp_path).code == Exit.FAILED
    (tmp_path / "more").write_text("1")
    (tmp_path / "job.py").write_text(job.replace("return x", "return 2 * x"))
    broken = penstock("runs", "ls", "--json", "--limit", "1").json[0]
    answer = penstock("runs", "resume", broken["id"], cwd=tmp_path)
    assert answer.code == Exit.REFUSED
    assert "--on-code-change continue" in answer.err
    answer = penstock("runs", "resume", broken["id"], "--on-code-change", "continue", "--json", cwd=tmp_path)
    assert answer.json["result"] == 3
