"""Scripts, stopped from outside: the first signal is a request, the second one an order."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from recording import Stopwatch

SCRIPT = Path(__file__).parents[1] / "support" / "script.py"
GRACE = 4.0


def _begin(*arguments: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    seen: Counter[str] = Counter()
    while seen["began"] < 4 or (arguments[0] == "sync" and not seen["ready"]):
        seen[process.stdout.readline().strip()] += 1
    assert psutil.Process(process.pid).children(recursive=True) == []
    return process


def _last_states(path: Path) -> Counter[str]:
    last = {line.split()[1]: (line.split()[0], line.split()[2]) for line in path.read_text().splitlines()}
    return Counter(f"{kind} {state}" for kind, state in last.values())


@pytest.mark.parametrize(("kind", "tasks"), [("sync", 100), ("async", 4)])
def test_one_ctrl_c_writes_the_states_and_ends_within_the_grace_time(kind: str, tasks: int, tmp_path: Path) -> None:
    process = _begin(kind, tmp_path / "states", 2)
    clock = Stopwatch()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert clock.seconds < GRACE + 2
    # Python ends by the signal itself, which a shell shows as code 130.
    assert process.returncode == -signal.SIGINT
    assert _last_states(tmp_path / "states") == {"Task Cancelled": tasks, "Flow Cancelled": 1}
    assert "Exception in thread" not in err
    assert "Exception ignored" not in err
    assert err.count("Traceback") <= 2, err
    assert out.count("finally") == (4 if kind == "async" else 0)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    process = _begin("sync", tmp_path / "states", 60)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if "Flow run" in line and "Cancelled" in line:
            break
    clock = Stopwatch()
    # A signal that comes before the waiting has begun replaces the first one, so this user presses again.
    while process.poll() is None and clock.seconds < 10:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(0.3)
        except subprocess.TimeoutExpired:
            pass
    _, err = process.communicate(timeout=30)
    assert clock.seconds < 1.5
    assert process.returncode == -signal.SIGINT
    assert "Exception in thread" not in err


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_sigterm_stops_in_order_where_the_program_asked_for_that(kind: str, tmp_path: Path) -> None:
    process = _begin(kind, tmp_path / "states", 2, "stop_on_sigterm")
    clock = Stopwatch()
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert clock.seconds < GRACE + 2
    assert process.returncode == 128 + signal.SIGTERM, err
    assert set(_last_states(tmp_path / "states")) == {"Task Cancelled", "Flow Cancelled"}
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_sigterm_stops_a_job_that_a_shell_started_in_the_background(kind: str, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the shell does, since Ctrl-C is for the foreground
    try:
        process = _begin(kind, tmp_path / "states", 2, "stop_on_sigterm")
    finally:
        signal.signal(signal.SIGINT, before)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert set(_last_states(tmp_path / "states")) == {"Task Cancelled", "Flow Cancelled"}
    assert "Traceback" not in err


def test_without_asking_sigterm_is_what_it_is_to_every_python_program(tmp_path: Path) -> None:
    process = _begin("sync", tmp_path / "states", 60)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_stop_on_sigterm_puts_the_old_handler_back() -> None:
    from penstock.runtime import stop_on_sigterm

    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("ctrl_c", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler])
def test_stop_on_sigterm_leaves_ctrl_c_as_it_was(ctrl_c: Any) -> None:
    from penstock.runtime import stop_on_sigterm

    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        with pytest.raises(SystemExit) as stopped, stop_on_sigterm():
            signal.raise_signal(signal.SIGTERM)
        assert stopped.value.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is ctrl_c
    finally:
        signal.signal(signal.SIGINT, before)
