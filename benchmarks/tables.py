"""A table, as it is printed and as a page shows it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Columns and rows of text.

    Attributes:
        title: What it is about.
        columns: The names of the columns.
        rows: As many cells each.
        texts: How many of the first columns are words; the others are figures and stand to the right.
        red: Which rows are to be seen first.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    red: frozenset[int] = field(default_factory=frozenset[int])

    def markdown(self) -> str:
        """For a page, without the title."""
        rules = ["---" if index < self.texts else "--:" for index in range(len(self.columns))]
        lines = [self.columns, rules, *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def show(self) -> None:
        """On the terminal, or 160 columns wide into a file."""
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left", title_style="")
        for index, name in enumerate(self.columns):
            table.add_column(name, justify="left" if index < self.texts else "right")
        for index, row in enumerate(self.rows):
            table.add_row(*row, style="red" if index in self.red else None)
        Console(width=None if sys.stdout.isatty() else 160).print(table)
