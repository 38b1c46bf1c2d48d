"""The figures that were measured last, kept as JSON: the page, its plots and the check are made from them alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "measured"


def keep(name: str, content: dict[str, Any]) -> None:
    """Keep figures under a name, in place of those that were there."""
    file = FOLDER / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(name: str) -> dict[str, Any] | None:
    """The figures of that name; None if they have not been measured."""
    file = FOLDER / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def peers(names: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of those peers that have been measured."""
    return [found for name in names if (found := read(f"peers/{name}")) is not None]
