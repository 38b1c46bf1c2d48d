"""The reference page says what the command does."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_written_from_the_command() -> None:
    page = runpy.run_path(str(DOCS / "generate_cli.py"))["page"]
    assert (DOCS / "reference" / "cli.md").read_text(encoding="utf-8") == page(), "run docs/generate_cli.py"
