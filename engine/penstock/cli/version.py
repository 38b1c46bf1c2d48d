"""``penstock version``."""

from __future__ import annotations

import sys

import click

from penstock import __version__
from penstock.cli.output import json_option, say

__all__ = ("command",)


@click.command("version")
@json_option
def command(as_json: bool) -> None:
    """Say which version this is."""
    python = ".".join(map(str, sys.version_info[:3]))
    say({"penstock": __version__, "python": python, "platform": sys.platform}, as_json, f"penstock {__version__}")
