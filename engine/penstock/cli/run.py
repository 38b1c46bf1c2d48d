"""``penstock run``."""

from __future__ import annotations

from functools import partial

import click

from penstock.cli.output import json_option
from penstock.cli.targets import find_flow, parameters_option, read_parameters

__all__ = ("command",)


@click.command("run")
@click.argument("target")
@parameters_option
@json_option
def command(target: str, given: tuple[str, ...], as_json: bool) -> None:
    """Run a flow: path/to/file.py:flow, or module:flow.

    A file is loaded as `python file.py` would, but for what stands below `if __name__ == "__main__"`. Log lines go to
    standard error. The exit code is 0 if the run has completed, and 1 if not.
    """
    flow = find_flow(target)
    args, kwargs = read_parameters(flow, given)

    from penstock.cli.execution import execute

    execute(partial(flow, *args, **kwargs), as_json)
