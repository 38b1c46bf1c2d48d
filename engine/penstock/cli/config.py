"""``penstock config``: what the settings are, and who says so."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click

from penstock.cli.output import Cell, Column, json_option, print_json, print_table
from penstock.settings import given, home, truth

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
        known: Whether there is such a setting.
        trouble: Why it cannot be used, if so.
    """

    name: str
    value: str
    source: str
    known: bool = True
    trouble: str = ""


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
        yield Setting(
            name, _without_secrets(text or default), _source(place) or "default", trouble=_trouble(name, text)
        )
    for name, (text, place) in said.items():
        nearest = difflib.get_close_matches(name, DEFAULTS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        trouble = f"there is no such setting{hint}"
        yield Setting(name, _without_secrets(text), _source(place), known=False, trouble=trouble)


def _trouble(name: str, text: str) -> str:
    """What is wrong with what is given as a setting; nothing if nothing is given, or nothing is wrong."""
    read = _readers().get(name)
    if not text or read is None:
        return ""
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return ""


def _readers() -> dict[str, Callable[[str], object]]:
    """What reads each setting where it is used; whatever is missing here is any text."""
    from penstock_history.history import durability_in
    from penstock_history.retention import Retention

    truths = ("persist_results", "refresh_cache", "disable_caching", "strict_cache_keys", "allow_pickle")
    return {
        **dict.fromkeys(truths, truth),
        **dict.fromkeys(("task_retries", "flow_retries"), int),
        **dict.fromkeys(("task_retry_delay_seconds", "flow_retry_delay_seconds", "cache_lease_seconds"), float),
        "durability": durability_in,
        "retention": Retention.parse,
    }


def _row(setting: Setting) -> list[str | Cell]:
    style = "" if setting.known else "yellow"
    if setting.known and setting.trouble:
        style = "red"
    source = f"{setting.source}: {setting.trouble}" if setting.trouble else setting.source
    return [Cell(setting.name, style), Cell(setting.value, style), Cell(source, style or "dim")]


def _source(place: str) -> str:
    return place.removeprefix("The environment variable ")


def _without_secrets(text: str) -> str:
    """A URL without the password and the query in it; anything else as it is."""
    return re.sub(r"(\w+://[^/@:]*):[^/@]*@", r"\1:***@", re.sub(r"(\w+://[^?]*)\?.*", r"\1", text))
