"""The terminal pictures are recorded from commands that work."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pictures_can_be_recorded_anew(tmp_path: Path) -> None:
    recorder = runpy.run_path(str(DOCS / "record_terminal.py"))
    recorder["main"](tmp_path)
    page = (DOCS / "howto" / "command-line.md").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == set(recorder["PICTURES"])
    for name in recorder["PICTURES"]:
        assert f"]({name})" in page
        for drawn in (tmp_path / name, DOCS / "howto" / name):
            text = drawn.read_text(encoding="utf-8")
            assert "https://" not in text.replace("https://www.textualize.io", "")
            assert "Usage:" not in text
            assert "━━" in text
    assert text.count("Cached") >= 16
    assert "continues" in text
