"""``penstock runs logs``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from penstock.cli.output import json_option, printable
from penstock.cli.words import iso

if TYPE_CHECKING:
    from penstock_history.records import LogRecord

__all__ = ("command",)


@click.command("logs")
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until the run has ended.")
@json_option
def command(run: str, follow: bool, as_json: bool) -> None:
    """Print the log lines of a run and of all runs inside it; with --json one object a line."""
    from penstock.cli.runs.access import has_ended, reading, the_run, watch

    with reading() as reader:
        found = the_run(reader, run)
        seen, was_over = 0, has_ended(found)
        for current in watch(reader, found):
            over = has_ended(current) or not reader.is_alive(current.owner)
            lines = reader.logs(found.id, seen)
            _print(lines, as_json)
            if not follow or (over and was_over):
                return
            seen = max([seen, *(line.id for line in lines)])
            was_over = over  # its last words may come a moment later than its last state, so there is one more look


def _print(lines: Iterable[LogRecord], as_json: bool) -> None:
    for line in lines:
        level = logging.getLevelName(line.level)
        if as_json:
            facts = {"run": str(line.run), "time": iso(line.time), "level": level, "logger": line.logger}
            click.echo(json.dumps({**facts, "message": line.message}))
        else:
            moment = datetime.fromtimestamp(line.time).strftime("%H:%M:%S.%f")[:-3]
            click.echo(f"{moment} | {level:7} | {printable(line.message)}")
