"""The page docs/reference/cli.md, made of the command itself; docs/generate.py writes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from penstock.cli.app import penstock
from penstock.cli.exits import MEANINGS

HEAD = """\
# The command line

Written from the command itself. [How to use it](../howto/command-line.md).

`penstock` is also `python -m penstock`. Every command that prints something has `--json`: one JSON document on
standard output, or one object a line from `runs logs`. Times are ISO 8601. Messages and log lines go to standard
error. Without a terminal tables are plain text and nothing is cut off; in one, `NO_COLOR` turns colours off and columns
that do not fit are left out.

RUN is an id, the beginning or the end of one (four digits at least), or a run's name.

## Exit codes

| code | meaning |
|---|---|
"""


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    return f"{HEAD}{codes}\n" + "\n".join(sections(penstock, "penstock", None))


def sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    """A section for a command, and for a group one for each of its commands."""
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None
            yield from sections(found, sub, context)
        return
    arguments = " ".join((each.name or "").upper() for each in command.params if isinstance(each, click.Argument))
    text = inspect.cleandoc(command.help or "")
    yield f"## {context.command_path} {arguments}".rstrip() + f"\n\n{text}\n"
    yield "| option | |\n|---|---|"
    yield from (row(parameter) for parameter in command.params if isinstance(parameter, click.Option))
    yield ""


def row(option: click.Option) -> str:
    """An option's line in the table."""
    value = "" if option.is_flag else f" {option.metavar or 'TEXT'}"
    default = f" By default {option.default}." if option.show_default else ""
    return f"| `{', '.join(option.opts)}{value}` | {option.help}{default} |"
