"""``penstock runs ls``."""

from __future__ import annotations

import time  # noqa: TID251 (how long a run has been going)

import click

from penstock.cli.output import Column, json_option, on_terminal, print_json, print_table
from penstock.cli.words import duration, local_time, moment, state_cell

__all__ = ("command",)

_COLUMNS = (
    Column("STATE"),
    Column("FLOW"),
    Column("NAME"),
    Column("CREATED"),
    Column("TOOK", right=True, spare=True),
    Column("TAGS", spare=True),
    Column("ID", spare=True),
)


@click.command("ls")
@click.option("--state", "states", multiple=True, help="Only runs in this state, by its name or type; may be repeated.")
@click.option("--flow", help="Only runs of this flow.")
@click.option("--tag", help="Only runs with this tag.")
@click.option("--since", type=moment, metavar="TIME", help="Only runs since then: 12h, 30d, 2026-11-21T14:30.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(min=1), metavar="NUMBER", help="How many at most."
)
@json_option
def command(
    states: tuple[str, ...], flow: str | None, tag: str | None, since: float | None, limit: int, as_json: bool
) -> None:
    """List flow runs, the newest first."""
    from penstock.cli.runs.access import facts_of, reading
    from penstock_history.records import RunQuery

    query = RunQuery(states=states, definition=flow, tag=tag, since=since, limit=limit)
    with reading() as reader:
        runs = reader.runs(query)
    if as_json:
        print_json([facts_of(run) for run in runs])
        return
    if not runs:
        asked = any((states, flow, tag, since is not None))
        nothing = "Nothing has been run yet. Try: penstock run FILE.py:FLOW."
        _say_where_nothing_is("No flow run is like that." if asked else nothing)
        if on_terminal():
            return
    now = time.time()
    print_table(
        _COLUMNS,
        (
            (
                state_cell(run.type, run.state),
                run.definition,
                run.name,
                local_time(run.created),
                duration((run.ended or now) - run.created),
                ",".join(run.tags),
                str(run.id),
            )
            for run in runs
        ),
    )


def _say_where_nothing_is(what: str) -> None:
    """Say that nothing was found, and where; into a pipe goes the empty table alone."""
    from penstock_history.history import History

    click.echo(f"{what} The history is {History().url}; PENSTOCK_HISTORY names another.", err=not on_terminal())
