"""``penstock run``: parameters, exit codes, and what goes where."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from recording import Stopwatch

from penstock.cli.exits import Exit

Flows = Callable[[str], str]


def test_a_run_says_how_it_ended_and_is_recorded(penstock, flows: Flows) -> None:
    answer = penstock("run", flows("squares"), "-p", "n=4")
    assert answer.code == Exit.DONE
    printed, summary = answer.out.splitlines()
    assert printed == "this goes to standard output"
    assert summary.startswith("Completed  ")
    assert "squaring 4 numbers" in answer.err
    (run,) = penstock("runs", "ls", "--json").json
    assert run["name"] in summary
    assert run["id"] in summary
    assert run["entrypoint"] == flows("squares")


def test_json_is_all_that_stands_on_standard_output(penstock, flows: Flows) -> None:
    answer = penstock("run", flows("squares"), "--json")
    assert answer.json["flow"] == "squares"
    assert answer.json["state"] == "Completed"
    assert answer.json["result"] == [0, 1, 4]
    assert "this goes to standard output" in answer.err
    assert penstock("runs", "show", answer.json["id"], "--json").json["name"] == answer.json["name"]


def test_parameters_are_read_as_the_signature_says(penstock, flows: Flows, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('["a", "b"]')
    answer = penstock(
        "run", flows("typed"), "--json",
        "-p", "day=2026-11-21",
        "-p", 'source={"url": "file:", "pages": "2"}',
        "-p", f"names=@{tmp_path}/names.json",
        "-p", "price=0.12345678901234567890",
        "-p", "either=7",
        "-p", "maybe=null",
        "-p", "label=@@007",
        "-p", "loud=yes",
        "-p", "free=[1, null]",
    )  # fmt: skip
    assert answer.json["result"] == {
        "day": "datetime.date(2026, 11, 21)",
        "source": "Source(url='file:', pages=2)",
        "names": "['a', 'b']",
        "price": "Decimal('0.12345678901234567890')",
        "either": "7",
        "maybe": "None",
        "label": "'@007'",
        "loud": "True",
        "free": "[1, None]",
    }


def test_what_looks_like_something_else_is_text_where_text_is_wanted(penstock, flows: Flows) -> None:
    answer = penstock(
        "run", flows("typed"), "--json",
        "-p", "day=2026-11-21", "-p", "label=42", "-p", "maybe=42", "-p", "either=x", "-p", "free=plain text",
    )  # fmt: skip
    result = answer.json["result"]
    assert (result["label"], result["maybe"], result["either"], result["free"]) == (
        "'42'",
        "'42'",
        "'x'",
        "'plain text'",
    )


def test_further_keywords_and_positional_parameters(penstock, flows: Flows) -> None:
    answer = penstock("run", flows("keywords"), "--json", "-p", "first=1", "-p", "other=2.5")
    assert answer.json["result"] == {"first": 1, "other": 2.5}


@pytest.mark.parametrize(
    ("target", "parameters", "message"),
    [
        ("squares", ["m=1"], "has no parameter 'm'"),
        ("typed", ["dya=2026-11-21"], "Did you mean 'day'?"),
        ("typed", [], "needs a value for 'day': give -p day=..."),
        ("typed", ["day=soon"], "parameter 'day'"),
        ("typed", ["day=2026-11-21", 'source={"pages": 1}'], "source.url: Field required"),
        ("typed", ["day=2026-11-21", "names=@nowhere.json"], "The value of 'names' cannot be read from nowhere.json"),
        ("squares", ["n=1", "n=2"], "-p n=... is given twice"),
        ("squares", ["n"], "-p 'n' has no value: write -p KEY=VALUE"),
        ("keywords", ["first=1", "other=much"], "parameter 'other'"),
        ("sqares", [], "There is no 'sqares' in"),
        ("square", [], "is a Task and not a flow: decorate it with @flow"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_runs(
    target: str, parameters: list[str], message: str, penstock, flows: Flows
) -> None:
    options = [part for parameter in parameters for part in ("-p", parameter)]
    answer = penstock("run", flows(target), *options)
    assert answer.code == Exit.USAGE, answer
    assert answer.err.startswith("Error: ")
    assert message in answer.err
    assert answer.out == ""
    assert not (penstock.home / "history.db").exists()


def test_a_script_that_cannot_be_loaded_is_shown_where(penstock, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import json\n\njson.loads('{')\n")
    (tmp_path / "garbled.py").write_text("def f(:\n")
    for target in ("broken.py:f", "broken:f"):
        answer = penstock("run", target, cwd=tmp_path)
        assert answer.code == Exit.USAGE
        assert 'broken.py", line 3, in <module>' in answer.err
        assert "frozen importlib" not in answer.err
        assert "penstock_history" not in answer.err
    assert "invalid syntax (garbled.py, line 1)" in penstock("run", "garbled.py:f", cwd=tmp_path).err
    for target in ("nowhere.py:f", "no.such.module:f", "nonsense"):
        answer = penstock("run", target, cwd=tmp_path)
        assert answer.code == Exit.USAGE
        assert "Traceback" not in answer.err


def test_a_module_in_the_current_folder_can_be_run(penstock, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("WORD = 'help'\n")
    (tmp_path / "jobs.py").write_text(
        "from penstock import flow\nfrom helper import WORD\n@flow\ndef job() -> str:\n    return WORD\n"
    )
    assert penstock("run", "jobs:job", "--json", cwd=tmp_path).json["result"] == "help"
    assert penstock("run", tmp_path / "jobs.py:job", "--json", cwd=Path("/")).json["result"] == "help"


def test_a_value_that_json_cannot_say_is_told_in_words(penstock, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from penstock import flow\n@flow\ndef odd() -> float:\n    return float('nan')\n"
        "@flow\ndef bytes_of() -> bytes:\n    return b'x'\n"
    )
    assert penstock("run", "odd.py:odd", "--json", cwd=tmp_path).json["result"] == "nan"
    assert penstock("run", "odd.py:bytes_of", "--json", cwd=tmp_path).json["result"] == "b'x'"


def test_a_failure_shows_the_users_traceback_and_has_its_code(penstock, flows: Flows) -> None:
    answer = penstock("run", flows("wobbly"))
    assert answer.code == Exit.FAILED
    assert "ValueError: three is too many" in answer.err
    assert 'command_flows.py", line' in answer.err
    assert "states.py" not in answer.err
    assert answer.out.startswith("Failed  ")
    answer = penstock("run", flows("wobbly"), "--json")
    assert answer.code == Exit.FAILED
    facts = json.loads(answer.out)
    assert (facts["state"], facts["result"]) == ("Failed", None)
    assert "three is too many" in facts["message"]


def test_what_a_script_defines_travels_to_worker_processes(penstock, flows: Flows) -> None:
    assert penstock("run", flows("elsewhere"), "--json").json["result"] == [True, 42, True]
    assert penstock("run", flows("pooled"), "--json").json["result"] == [1, 2]


@pytest.mark.parametrize("target", ["waiting", "blocking"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)]
)  # fmt: skip
def test_signals_cancel_the_run(target: str, number: signal.Signals, code: Exit, penstock, flows: Flows) -> None:
    with penstock.start("run", flows(target)) as process:
        assert process.stdout.readline() == "began\n"
        clock = Stopwatch()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert clock.seconds < 10
    assert "Traceback" not in err
    assert ("cleaned up" in out) == (target == "waiting")
    (run,) = penstock("runs", "ls", "--json").json
    assert run["type"] == "CANCELLED"
