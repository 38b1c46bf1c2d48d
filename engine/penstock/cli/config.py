"""``penstock config``: what the settings are, and who says so."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

import click

from penstock.cli.output import Cell, Column, json_option, print_json, print_table
from penstock.settings import given, home

__all__ = ("DEFAULTS", "command", "settings_given")

DEFAULTS = {
    "home": "",
    "history": "history.db in the home; none for an Engine",
    "durability": "fast",
    "retention": "everything is kept",
    "results": "results in the home",
    "persist_results": "false",
    "refresh_cache": "false",
    "disable_caching": "false",
    "strict_cache_keys": "false",
    "cache_lease_seconds": "30",
    "allow_pickle": "true",
    "task_retries": "0",
    "task_retry_delay_seconds": "none",
    "flow_retries": "0",
    "flow_retry_delay_seconds": "none",
}
"""Every setting, with what holds where nobody says anything."""


class Setting(NamedTuple):
    """A setting as it is here.

    Attributes:
        name: Its name.
        value: Its value, without passwords.
        source: Who says so.
        known: Whether it means anything.
    """

    name: str
    value: str
    source: str
    known: bool


@click.group("config")
def command() -> None:
    """Look at the settings.

    They come from environment variables (PENSTOCK_RESULTS), from the table [tool.penstock] of the nearest
    pyproject.toml (results = "..."), and from config.toml in the home; what is named first goes first.
    """


@command.command("show")
@json_option
def show(as_json: bool) -> None:
    """Show every setting, and where it comes from."""
    settings = list(settings_given())
    if as_json:
        print_json([setting._asdict() for setting in settings])
        return
    print_table((Column("SETTING"), Column("VALUE"), Column("FROM")), (_row(setting) for setting in settings))


def settings_given() -> Iterator[Setting]:
    """Every setting; those that are given and mean nothing come last."""
    said = given()
    for name, default in DEFAULTS.items():
        text, place = said.pop(name, ("", ""))
        if name == "home":
            text = str(home())
        yield Setting(name, _without_secrets(text or default), _source(place) or "default", True)
    for name, (text, place) in said.items():
        nearest = difflib.get_close_matches(name, DEFAULTS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        yield Setting(name, _without_secrets(text), f"{_source(place)}: there is no such setting{hint}", False)


def _row(setting: Setting) -> list[str | Cell]:
    style = "" if setting.known else "yellow"
    return [Cell(setting.name, style), Cell(setting.value, style), Cell(setting.source, style or "dim")]


def _source(place: str) -> str:
    return place.removeprefix("The environment variable ")


def _without_secrets(text: str) -> str:
    """A URL without the password and the query in it; anything else as it is."""
    return re.sub(r"(\w+://[^/@:]*):[^/@]*@", r"\1:***@", re.sub(r"(\w+://[^?]*)\?.*", r"\1", text))
