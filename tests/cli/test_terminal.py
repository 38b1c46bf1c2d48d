"""What a terminal shows, and what it does not."""

from __future__ import annotations

import re

from penstock import Engine, flow
from penstock.history import History

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def test_a_terminal_gets_colours_and_fitting_columns(recorded) -> None:
    wide = recorded.on_terminal("runs", "ls", columns=160)
    assert "\x1b[32mCompleted" in wide
    runs = recorded("runs", "ls", "--json").json
    assert all(run["id"] in wide for run in runs)
    narrow = ESCAPE.sub("", recorded.on_terminal("runs", "ls", columns=60)).splitlines()
    assert max(map(len, narrow)) <= 60
    assert all(run["name"] in "\n".join(narrow) for run in runs)
    assert not any(run["id"] in "\n".join(narrow) for run in runs)


def test_a_time_line_fits_the_terminal(recorded) -> None:
    name = recorded("runs", "ls", "--json").json[1]["name"]
    for columns in (50, 140):
        lines = ESCAPE.sub("", recorded.on_terminal("runs", "show", name, columns=columns)).splitlines()
        bars = [line for line in lines if "━" in line]
        assert len(bars) >= 3
        assert max(map(len, bars)) <= columns


def test_no_color_means_none(recorded) -> None:
    plain = recorded.given(NO_COLOR="1").on_terminal("runs", "ls", columns=160)
    assert "\x1b[3" not in plain
    assert "Completed" in plain
    assert "\x1b" not in recorded("runs", "ls").out


def test_a_name_cannot_give_orders_to_a_terminal(penstock) -> None:
    @flow(name="evil\x1b]0;owned\x07", flow_run_name="run\x1b[2J", tags=["a\nb"])
    def evil() -> None:
        pass

    with Engine(history=History(penstock.home / "history.db")):
        evil()
    for said in (penstock.on_terminal("runs", "ls", columns=200), penstock("runs", "ls").out):
        assert "evil" in said
        assert "\x1b]0" not in said
        assert "\x1b[2J" not in said
        assert "\x07" not in said
