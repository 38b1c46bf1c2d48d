"""What starting the command costs, what it says of itself, and how it behaves at a pipe and in a terminal."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from penstock import __version__
from penstock.cli.exits import MEANINGS, Exit

HEAVY = ["asyncio", "pydantic", "rich", "fsspec", "sqlite3", "orjson", "cloudpickle", "penstock.engine"]
"""What neither the version nor help may bring along."""


def _imported(*arguments: str) -> list[str]:
    """Those of `HEAVY` that a command imports."""
    code = f"""
import json, sys
sys.argv[1:] = {arguments!r}
from penstock.__main__ import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, [name for name in {HEAVY!r} if name in sys.modules]]), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, imported = json.loads(done.stderr)
    assert exit_code == 0
    assert done.stdout
    return imported


@pytest.mark.parametrize("arguments", [("version",), ("--help",), ("runs", "ls", "--help")])
def test_saying_what_it_is_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert _imported(*arguments) == []


def test_the_heavy_modules_would_be_noticed() -> None:
    assert _imported("results", "ls") != []


def _processor_time(*command: str) -> float:
    """Seconds of the processor that a process takes; the least of five, without what its neighbours do to it."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def test_saying_the_version_costs_little_more_than_click_itself() -> None:
    floor = _processor_time(sys.executable, "-c", "import click")
    assert _processor_time(sys.executable, "-m", "penstock", "version") < 2 * floor


def test_the_version(penstock) -> None:
    script = Path(sys.executable).with_name("penstock")
    said = subprocess.run([script, "version"], capture_output=True, text=True, check=True).stdout
    assert said == f"penstock {__version__}\n"
    assert penstock("--version").out == said
    assert penstock("version", "--json").json["penstock"] == __version__


def test_forked_or_started_from_nothing_a_command_says_the_same(recorded, flows) -> None:
    """What the other tests execute is forked from a process that has imported everything already."""
    run = recorded("runs", "ls", "--json").json[1]["id"]
    key = recorded("results", "ls", "--json").json[0]["key"]
    for arguments in (
        ("runs", "ls"),
        ("runs", "show", run, "--json"),
        ("runs", "logs", run),
        ("runs", "rm", "--keep", 9),
        ("runs", "cancel", run),
        ("results", "show", key, "--value"),
        ("cache", "explain", flows("square"), "-p", "x=9"),
        ("history", "info"),
        ("config", "show"),
        ("run", flows("typed"), "-p", "day=soon"),
    ):
        with recorded.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        answer = recorded(*arguments)
        assert (answer.code, answer.out, answer.err) == (process.returncode, out, err)


def test_an_unknown_command_or_option_is_named(penstock) -> None:
    for arguments, message in {
        ("rnu",): "No such command 'rnu'",
        ("runs", "lst"): "No such command 'lst'",
        ("runs", "ls", "--limt", "3"): "No such option",
        ("runs", "ls", "--since", "yesterday"): "'yesterday' is no time: write 12h or 30d",
        ("runs", "ls", "--limit", "0"): "0 is not in the range",
    }.items():
        answer = penstock(*arguments)
        assert answer.code == Exit.USAGE
        assert message in answer.err
        assert answer.out == ""


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


def test_the_shell_completes_commands(penstock) -> None:
    answer = penstock.given(_PENSTOCK_COMPLETE="bash_complete", COMP_WORDS="penstock ru", COMP_CWORD="1")()
    assert answer.code == 0
    assert answer.out.split() == ["plain,run", "plain,runs"]


def test_a_reader_that_goes_away_is_no_trouble(recorded) -> None:
    """The pipe is closed before anything is written into it."""
    with recorded.start("runs", "show", "--json", "--all", recorded("runs", "ls", "--json").json[0]["id"]) as process:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(30) == Exit.PIPE_CLOSED
    assert err == ""
