"""``penstock config``, ``doctor`` and ``history``: how things are set up, and whether they work."""

from __future__ import annotations

import re
from pathlib import Path

from penstock import Engine, flow, get_run_logger
from penstock.cli.config import DEFAULTS
from penstock.cli.exits import Exit
from penstock.cli.words import byte_count
from penstock.history import History

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_every_setting_is_shown_with_its_source(penstock, tmp_path: Path) -> None:
    (penstock.home / "config.toml").write_text("flow_retries = 2\ndurability = 'full'\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.penstock]\ntask_retries = 3\ndurability = 'none'\nretrys = 1\n")
    command = penstock.given(
        PENSTOCK_DURABILITY="fast", PENSTOCK_HISTORY="postgresql://me:secret@host/db?password=more"
    )
    shown = {setting["name"]: setting for setting in command("config", "show", "--json", cwd=project).json}
    assert shown.keys() == {*DEFAULTS, "retrys"}
    assert (shown["durability"]["value"], shown["durability"]["source"]) == ("fast", "PENSTOCK_DURABILITY")
    assert (shown["task_retries"]["value"], shown["flow_retries"]["value"]) == ("3", "2")
    assert str(project / "pyproject.toml") in shown["task_retries"]["source"]
    assert shown["results"]["source"] == "default"
    assert shown["history"]["value"] == "postgresql://me:***@host/db"
    assert shown["home"]["value"] == str(penstock.home)
    assert not shown["retrys"]["known"]
    said = command("config", "show", cwd=project).out
    assert "secret" not in said
    assert "there is no such setting" in said


def test_the_home_is_shown_that_nobody_names(penstock, tmp_path: Path) -> None:
    command = penstock.given(PENSTOCK_HOME="", XDG_STATE_HOME=str(tmp_path))
    home = next(setting for setting in command("config", "show", "--json").json if setting["name"] == "home")
    assert (home["value"], home["source"]) == (str(tmp_path / "penstock"), "default")


def test_a_password_without_a_user_is_not_shown(penstock) -> None:
    shown = penstock.given(PENSTOCK_RESULTS="redis://:secret@host/1")("config", "show").out
    assert "redis://:***@host/1" in shown
    assert "secret" not in shown


def test_the_settings_are_those_of_the_page() -> None:
    listed = re.findall(r"^\| `PENSTOCK_(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name.lower() for name in listed) == sorted(DEFAULTS)


def test_settings_that_cannot_be_read_are_named(penstock) -> None:
    (penstock.home / "config.toml").write_text("flow_retries = \n")
    answer = penstock("config", "show")
    assert answer.code == Exit.USAGE
    assert str(penstock.home / "config.toml") in answer.err
    assert "Traceback" not in answer.err
    assert penstock("version").code == Exit.DONE


def test_settings_that_say_what_cannot_be_are_shown_with_what_is_wrong(penstock) -> None:
    wrong = {
        "PENSTOCK_TASK_RETRIES": "three",
        "PENSTOCK_PERSIST_RESULTS": "maybe",
        "PENSTOCK_DURABILITY": "paranoid",
        "PENSTOCK_RETENTION": "30 days",
    }
    command = penstock.given(**wrong)
    shown = command("config", "show", "--json").json
    troubles = {setting["name"]: setting["trouble"] for setting in shown if setting["trouble"]}
    assert {f"PENSTOCK_{name.upper()}" for name in troubles} == {*wrong}
    assert "give true or false" in troubles["persist_results"]
    assert "'full'" in troubles["durability"]
    assert "PENSTOCK_TASK_RETRIES: invalid literal for int()" in command("config", "show").out
    faults = [line for line in command("doctor").out.splitlines() if line.startswith("fault")]
    assert sum("PENSTOCK_PERSIST_RESULTS: give true or false" in line for line in faults) == 1, faults


def test_the_doctor_finds_that_all_is_well(penstock) -> None:
    command = penstock.given(PENSTOCK_RESLTS="x")
    found = command("doctor", "--json").json
    assert {finding["subject"] for finding in found} >= {"python", "home", "history", "results", "threads", "processes"}
    assert not [finding for finding in found if finding["status"] == "fault"]
    (typo,) = [finding for finding in found if finding["subject"] == "settings"]
    assert "did you mean results?" in typo["says"]
    assert [path.name for path in penstock.home.iterdir() if path.name.startswith("doctor")] == []
    assert penstock("results", "ls", "--json").json == []


def test_the_doctor_finds_faults_and_goes_on(penstock) -> None:
    (penstock.home / "history.db").write_bytes(b"this is no database" * 1000)
    command = penstock.given(PENSTOCK_RESULTS="/proc/nowhere")
    answer = command("doctor")
    assert answer.code == Exit.FAILED
    faults = [line.split()[1] for line in answer.out.splitlines() if line.startswith("fault")]
    assert faults == ["history", "results"]
    assert "processes" in answer.out
    assert "Traceback" not in answer.err


def test_the_history_is_described_compacted_and_brought_up_to_date(recorded) -> None:
    facts = recorded("history", "info", "--json").json
    assert (facts["flow_runs"], facts["task_runs"]) == (3, 20 + 4 + 3)
    assert facts["processes"] == 0
    assert str(recorded.home / "history.db") in facts["url"]
    said = recorded("history", "info").out
    assert f"task runs   {facts['task_runs']}" in said
    sizes = recorded("history", "vacuum", "--json").json
    assert 0 < sizes["after"] <= sizes["before"]
    assert recorded("history", "migrate", "--json").json["schema"] == facts["schema"]


def test_a_vacuum_gives_back_what_deleted_runs_took(penstock) -> None:
    @flow
    def chatty() -> None:
        for _ in range(200):
            get_run_logger().error("x" * 1_000)

    with Engine(history=History(penstock.home / "history.db")):
        chatty()
    (run,) = penstock("runs", "ls", "--json").json
    assert penstock("runs", "rm", run["id"]).code == Exit.DONE
    before = penstock("history", "info", "--json").json["bytes"]
    assert penstock("history", "vacuum").out.startswith(f"{byte_count(before)} before, ")
    facts = penstock("history", "info", "--json").json
    assert facts["bytes"] == facts["bytes_used"] < before / 2
