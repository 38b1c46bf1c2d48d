"""What the command prints: JSON for programs, tables for people, and plain columns where nobody looks.

A terminal gets colours and fitting columns from rich, which is imported for nothing else. A pipe or a file gets the
same table in plain text, nothing cut off.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = (
    "Cell",
    "Column",
    "console",
    "json_option",
    "on_terminal",
    "print_facts",
    "print_json",
    "print_line",
    "print_table",
    "printable",
    "say",
)

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Give a command the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(value: Any) -> None:
    """Print a JSON document; what JSON has no form for is printed as its ``repr``."""
    click.echo(json.dumps(value, indent=2, default=repr))


def say(facts: Any, as_json: bool, sentence: str) -> None:
    """Print facts for a program, or a sentence for people."""
    if as_json:
        print_json(facts)
    else:
        click.echo(sentence)


def on_terminal() -> bool:
    """Whether somebody is looking."""
    return sys.stdout.isatty()


@cache
def console() -> Console:
    """The terminal, as rich sees it; it respects NO_COLOR, TERM and COLUMNS."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def printable(text: str) -> str:
    """Text whose control characters are visible, so that a name or a log line cannot give orders to a terminal."""
    return text.translate(_VISIBLE)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Its heading.
        right: Whether its cells end at the same place.
        spare: Whether a terminal leaves it out if it is too narrow, or if nothing is in it.
        wraps: Whether its cells take several lines if the terminal is too narrow; else what does not fit is cut off.
    """

    title: str
    right: bool = False
    spare: bool = False
    wraps: bool = False


class Cell(NamedTuple):
    """A cell with a style of rich's."""

    text: str
    style: str


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Print a table."""
    cells = [[_cell(content) for content in row] for row in rows]
    if on_terminal():
        _print_rich(columns, cells)
    else:
        _print_plain(columns, cells)


def _cell(content: str | Cell) -> Cell:
    text, style = content if isinstance(content, Cell) else (content, "")
    return Cell(printable(text).replace("\n", " ").replace("\t", " "), style)


def _print_plain(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    lines = [[column.title for column in columns], *([cell.text for cell in row] for row in rows)]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        fitted = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        click.echo("  ".join(fitted).rstrip())


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    contents = [max((cell_len(row[place].text) for row in rows), default=0) for place in range(len(columns))]
    shown = _that_fit(columns, contents, console().width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    widest = max(shown, key=lambda place: contents[place])
    for place in shown:
        title, right, _, wraps = columns[place]
        table.add_column(
            title,
            justify="right" if right else "left",
            no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis",
            min_width=None if place == widest else max(contents[place], len(title)),
        )
    for row in rows:
        table.add_row(*(Text(row[place].text, style=row[place].style) for place in shown))
    console().print(table)


def _that_fit(columns: Sequence[Column], contents: Sequence[int], room: int) -> list[int]:
    """The places of the columns to show: empty spare ones go, and then the last spare ones until the rest fits."""
    shown = [place for place, column in enumerate(columns) if contents[place] or not column.spare]
    for place in shown[::-1]:
        if sum(max(contents[each], len(columns[each].title)) + 2 for each in shown) - 2 <= room:
            break
        if columns[place].spare:
            shown.remove(place)
    return shown


def print_facts(facts: Mapping[str, str | Cell | None]) -> None:
    """Print names and values below one another; what is None is left out."""
    width = max((len(name) for name, content in facts.items() if content is not None), default=0)
    for name, content in facts.items():
        if content is not None:
            print_line(Cell(f"{name:{width}}  ", "bold"), content)


def print_line(*parts: str | Cell) -> None:
    """Print one line, its parts in their styles where there are any."""
    cells = [part if isinstance(part, Cell) else Cell(part, "") for part in parts]
    if not on_terminal():
        click.echo("".join(printable(cell.text) for cell in cells))
        return
    from rich.text import Text

    console().print(Text.assemble(*((printable(cell.text), cell.style) for cell in cells)), soft_wrap=True)
