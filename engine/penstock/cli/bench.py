"""``penstock bench``: what a task costs on this machine, beside the bare library."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import Column, console, json_option, on_terminal, print_json, print_table

if TYPE_CHECKING:
    from penstock.cli.floors import Comparison, Place

__all__ = ("command",)

_NAMES = ("asyncio", "threads", "processes", "dask", "ray")
_COLUMNS = (
    Column("ON"),
    Column("BESIDE", spare=True),
    Column("TASKS", right=True),
    Column("BARE µs", right=True),
    Column("PENSTOCK µs", right=True),
    Column("RATIO", right=True),
    Column("RANGE", right=True, spare=True),
)


@click.command("bench")
@click.argument("names", metavar="[RUNNER]...", nargs=-1, type=click.Choice(_NAMES))
@click.option("--tasks", default=10_000, show_default=True, type=click.IntRange(1), help="How many tasks a turn has.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="How many turns each takes.")
@json_option
def command(names: tuple[str, ...], tasks: int, rounds: int, as_json: bool) -> None:
    """Measure what a task costs here, beside the bare library.

    Maps a function that does nothing over many items, on every RUNNER that is installed or on those that are named,
    in turns with what lies beneath: asyncio's tasks, the standard library's pools, Dask's client, Ray's remote
    functions. A map travels in batches where a trip costs, so a ratio can be far below one. Dask and Ray get a tenth
    of the tasks. Nothing is recorded in the history.
    """
    import logging

    from penstock.cli.floors import PLACES, compare

    logging.getLogger("penstock").setLevel(logging.WARNING)
    found: dict[str, Comparison] = {}
    chosen = dict.fromkeys(names) or [name for name, place in PLACES.items() if place.installed]
    for name in chosen:
        with _said(f"{name} beside {PLACES[name].floor}"):
            found[name] = compare(PLACES[name], tasks, rounds)
    if as_json:
        print_json([_facts(name, PLACES[name], comparison) for name, comparison in found.items()])
        return
    print_table(_COLUMNS, (_row(name, PLACES[name], comparison) for name, comparison in found.items()))
    if not names:
        for name in [name for name in PLACES if name not in found]:
            click.echo(f"{name} is not installed: pip install 'penstock[{PLACES[name].extra}]'")


@contextmanager
def _said(what: str) -> Generator[None, None, None]:
    """Show what is being done while it is."""
    with console().status(what) if on_terminal() and sys.stdin.isatty() else nullcontext():
        yield


def _facts(name: str, place: Place, comparison: Comparison) -> dict[str, Any]:
    return {"runner": name, "floor": place.floor, **comparison._asdict()}


def _row(name: str, place: Place, comparison: Comparison) -> list[str]:
    return [
        name,
        place.floor,
        f"{comparison.tasks:,}",
        f"{comparison.bare:,.4g}",
        f"{comparison.ours:,.4g}",
        f"{comparison.ratio:.2f} x",
        f"{comparison.least:.2f} - {comparison.most:.2f}",
    ]
