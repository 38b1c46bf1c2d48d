"""``penstock history``: the place where runs are recorded."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from penstock.cli.output import json_option, print_facts, print_json, say
from penstock.cli.words import byte_count

__all__ = ("command",)


@click.group("history")
def command() -> None:
    """Look after the place where runs are recorded: the one that PENSTOCK_HISTORY names, or a file in the home."""


@command.command("info")
@json_option
def info(as_json: bool) -> None:
    """Say where the history is, what it is, and how much is in it."""
    facts = _facts()
    if as_json:
        print_json(facts)
        return
    sizes = {name: byte_count(facts[name]) for name in facts if name.startswith("bytes")}
    print_facts({name.replace("_", " "): sizes.get(name, str(value)) for name, value in facts.items()})


@command.command("vacuum")
@json_option
def vacuum(as_json: bool) -> None:
    """Give the space of deleted runs back to the file system."""
    from penstock.cli.runs.access import writing

    before = _facts().get("bytes")
    with writing() as writer:
        writer.compact()
    after = _facts().get("bytes")
    say({"before": before, "after": after}, as_json, f"{byte_count(before)} before, {byte_count(after)} now.")


@command.command("migrate")
@json_option
def migrate(as_json: bool) -> None:
    """Bring the schema up to date; recording does so by itself, and killing it in between does no harm."""
    from penstock_history.history import History

    history = History()
    version = history.database.migrate()
    say({"url": history.url, "schema": version}, as_json, f"{history.url} has schema version {version}.")


def _facts() -> dict[str, Any]:
    from penstock_history.history import History

    history = History()
    with closing(history.database.open_reader()) as reader:
        return {"url": history.url, **reader.facts()}
