"""``penstock runs rm``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from penstock.cli.exits import Refused
from penstock.cli.output import Column, json_option, print_json, print_line, print_table
from penstock.cli.words import age, local_time, size, state_cell

if TYPE_CHECKING:
    from penstock_history.database import Reader
    from penstock_history.records import RunRecord
    from penstock_history.retention import Deleted, Retention

__all__ = ("command",)


@click.command("rm")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--older-than", type=age, metavar="TIME", help="Runs that ended longer ago than this: 12h, 30d, 8w.")
@click.option("--keep", type=click.IntRange(min=0), metavar="NUMBER", help="All but this many of the newest.")
@click.option("--max-size", type=size, metavar="SIZE", help="The oldest, until the history is no larger: 500MB, 2GB.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@json_option
def command(
    runs: tuple[str, ...],
    older_than: float | None,
    keep: int | None,
    max_size: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete runs that have ended.

    With them go the runs inside them, their logs, and the stored values that no other run refers to. Name the runs, or
    say with the options what is to go.
    """
    from penstock.cli.runs.access import reading
    from penstock_history.retention import Retention

    limits = (older_than, keep, max_size)
    if bool(runs) == any(limit is not None for limit in limits):
        raise click.UsageError("Name the runs to delete, or give --older-than, --keep or --max-size.")
    retention = Retention(None if older_than is None else timedelta(seconds=older_than), keep, max_size)
    with reading() as reader:
        doomed = _named(reader, runs) if runs else _expired(reader, retention)
        deleted = None if dry_run else _delete(reader, doomed, None if runs else retention)
    if as_json:
        print_json({"roots": [str(run.id) for run in doomed], **_counts(deleted), "dry_run": dry_run})
    elif deleted is None:
        _print_doomed(doomed)
    else:
        print_line(f"Deleted {deleted.runs:,} runs and {deleted.values:,} stored values.")


def _named(reader: Reader, texts: Iterable[str]) -> list[RunRecord]:
    """The runs that are named.

    Raises:
        Refused: If one of them goes on, or is a part of another one.
    """
    from penstock.cli.runs.access import has_ended, the_run

    found = [the_run(reader, text) for text in texts]
    for run in found:
        if run.parent is not None:
            raise Refused(f"{run.name} is a part of run {run.root}, and goes with that only.")
        if not has_ended(run):
            raise Refused(f"{run.name} is {run.state}: cancel it first, with penstock runs cancel {run.id}")
    return found


def _expired(reader: Reader, retention: Retention) -> list[RunRecord]:
    runs = (reader.run(root) for root in retention.expired(reader))
    return [run for run in runs if run is not None]


def _delete(reader: Reader, doomed: Iterable[RunRecord], retention: Retention | None) -> Deleted:
    from penstock.cli.runs.access import writing
    from penstock_history.history import History
    from penstock_history.retention import delete_runs, sweep

    if retention is not None:
        return sweep(History().database, retention)
    with writing() as writer:
        return delete_runs(reader, writer, [run.id for run in doomed])


def _counts(deleted: Deleted | None) -> dict[str, int]:
    return {} if deleted is None else {"runs": deleted.runs, "values": deleted.values}


def _print_doomed(runs: Sequence[RunRecord]) -> None:
    print_table(
        (Column("STATE"), Column("FLOW"), Column("NAME"), Column("CREATED"), Column("ID", spare=True)),
        (
            (state_cell(run.type, run.state), run.definition, run.name, local_time(run.created), str(run.id))
            for run in runs
        ),
    )
