"""``python -m penstock``, and the command ``penstock``."""

from __future__ import annotations

import sys

from penstock.cli.app import main as run_command

__all__ = ("main",)


def main() -> None:
    """Execute the command and exit with its code."""
    sys.exit(run_command())


if __name__ == "__main__":
    main()
