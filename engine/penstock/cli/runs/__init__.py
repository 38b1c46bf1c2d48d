"""``penstock runs``: what was run, what is running, and what becomes of it."""

from __future__ import annotations

import click

from penstock.cli.commands import Commands

__all__ = ("command",)


@click.group(
    "runs", cls=Commands, package="penstock.cli.runs", modules=("ls", "show", "logs", "resume", "cancel", "rm")
)
def command() -> None:
    """List, inspect, follow, cancel, resume and delete runs.

    RUN is an id, the beginning or the end of one, or a run's name. The history is the one that PENSTOCK_HISTORY names.
    """
