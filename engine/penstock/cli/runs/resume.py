"""``penstock runs resume``."""

from __future__ import annotations

from functools import partial
from typing import Literal

import click

from penstock.cli.output import json_option

__all__ = ("command",)


@click.command("resume")
@click.argument("run")
@click.option(
    "--on-code-change",
    type=click.Choice(["refuse", "continue"]),
    default="refuse",
    show_default=True,
    metavar="POLICY",
    help="If the code is not what it was: refuse, or continue with the results of the tasks that are as they were.",
)
@json_option
def command(run: str, on_code_change: Literal["refuse", "continue"], as_json: bool) -> None:
    """Continue a flow run that crashed, failed or was cancelled, as a new run.

    The flow runs again with the parameters that it had; tasks that had completed and whose values are stored are not
    executed again. A run that was resumed before is continued where that left off.
    """
    from penstock.cli.execution import execute
    from penstock.cli.runs.access import reading, the_run
    from penstock.cli.targets import loading
    from penstock_history.resuming.resume import resume

    with reading() as reader:
        found = the_run(reader, run)
    with loading():
        execute(partial(resume, found.id, on_code_change=on_code_change), as_json)
