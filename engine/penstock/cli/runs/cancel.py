"""``penstock runs cancel``."""

from __future__ import annotations

import time  # noqa: TID251 (how long somebody wants to wait)

import click

from penstock.cli.exits import Exit
from penstock.cli.output import json_option, print_json, print_line
from penstock.cli.words import age, state_cell

__all__ = ("command",)


@click.command("cancel")
@click.argument("run")
@click.option(
    "--wait",
    "patience",
    default="30s",
    show_default=True,
    type=age,
    metavar="TIME",
    help="How long to wait for its end.",
)
@json_option
@click.pass_context
def command(context: click.Context, run: str, patience: float, as_json: bool) -> None:
    """Cancel a run, and all that runs inside it, in whatever process it is.

    That process takes note within a second or two, and the run ends as if its own program had cancelled it: nothing of
    it starts any more, coroutines are cancelled where they await, clean-up runs.
    """
    from penstock.cli.runs.access import facts_of, has_ended, reading, the_run, watch, writing

    with reading() as reader:
        found = the_run(reader, run)
        asked = False
        if not has_ended(found):
            with writing() as writer:
                asked = writer.ask_to_cancel(found.id)
        if asked:
            deadline = time.monotonic() + patience
            over = (now for now in watch(reader, found) if has_ended(now) or time.monotonic() >= deadline)
            found = next(over, found)
    if as_json:
        print_json(facts_of(found) | {"asked": asked})
    else:
        print_line(state_cell(found.type, found.state), f"  {found.name}  {found.id}")
    if not asked:
        _say("It had ended already.")
        context.exit(Exit.REFUSED)
    if not has_ended(found):
        _say(f"It was asked, and has not ended within {patience:g} s: see what it does, or end its process.")
        context.exit(Exit.FAILED)


def _say(text: str) -> None:
    click.echo(text, err=True)
