"""Writes what the pages take from the code, and the programs that are taken from the pages.

``python docs/generate.py`` draws the diagrams of the states and of the packages, describes the command line, and writes
every Python block that has ``<!-- file: name.py -->`` before it into docs/examples, so that it can be run without being
copied. A test fails when anything is behind.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Set
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import cli_page  # noqa: E402 (a neighbour, wherever this is run)
import code_map  # noqa: E402

from penstock.states import TERMINAL, TRANSITIONS, StateType  # noqa: E402

BEGIN = "<!-- drawn by docs/generate.py: begin -->\n"
END = "<!-- drawn by docs/generate.py: end -->\n"
PROGRAM = re.compile(r"<!-- file: (?P<name>\w+\.py) -->\n```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


def generated() -> Iterator[tuple[Path, str]]:
    """Every file that this writes, with its text as it has to be."""
    for page, diagram in (("reference/states.md", states()), ("explanation/architecture.md", code_map.diagram())):
        path = DOCS / page
        yield path, with_diagram(path.read_text(encoding="utf-8"), diagram)
    yield DOCS / "reference" / "cli.md", cli_page.page()
    for page in sorted(DOCS.rglob("*.md")):
        for found in PROGRAM.finditer(page.read_text(encoding="utf-8")):
            yield DOCS / "examples" / found["name"], f"# From docs/{page.relative_to(DOCS)}.\n{found['code']}"


def with_diagram(page: str, diagram: str) -> str:
    """The page with the diagram of today between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"a page has lost the marks around its diagram: {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{diagram}\n{end}{after}"


def states() -> str:
    """The transition table as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", *(f"    {arrow}" for arrow in arrows()), "```"]
    return "\n".join(lines) + "\n"


def arrows() -> Iterator[str]:
    """One arrow for each step that a run can take, in the order of the table."""
    for before, followers in TRANSITIONS.items():
        for after in in_order(followers):
            yield f"{before.value if before is not None else '[*]'} --> {after.value}"
    for last in in_order(TERMINAL):
        yield f"{last.value} --> [*]"


def in_order(types: Set[StateType]) -> list[StateType]:
    """Sets have no order, and the page must not change by chance."""
    return [type_ for type_ in StateType if type_ in types]


if __name__ == "__main__":
    for path, text in generated():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(DOCS.parent))
