"""The command itself, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from penstock import __version__
from penstock.cli.commands import Commands
from penstock.cli.exits import Exit, exit_code_of
from penstock.errors import PenstockError

__all__ = ("main", "penstock")


@click.group(
    cls=Commands,
    package="penstock.cli",
    modules=("run", "runs", "results", "cache", "history", "config", "doctor", "bench", "version"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="penstock", message="%(prog)s %(version)s")
def penstock() -> None:
    """Run flows, and look at what was run.

    Everything is read from the history that PENSTOCK_HISTORY names and the result store that PENSTOCK_RESULTS names,
    or from those in the home; no server is needed, and the program that recorded it need not be running.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute the command.

    Args:
        arguments: The command line without the program's name; by default the process's.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # better a question mark than no answer
    if "_PENSTOCK_COMPLETE" in os.environ:
        penstock.main(arguments, prog_name="penstock")  # click answers the shell, and exits
    try:
        return _call(sys.argv[1:] if arguments is None else list(arguments))
    except BrokenPipeError:
        # What is still in the buffer can go nowhere, and Python would complain about that at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED


def _call(arguments: list[str]) -> int:
    # What click's own `main` does, but for Ctrl-C, closed pipes and our errors, which have codes of their own here.
    try:
        with penstock.make_context("penstock", arguments) as context:
            penstock.invoke(context)
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PenstockError as error:
        click.echo(f"Error: {error}", err=True)
        return exit_code_of(error)
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    return Exit.DONE
