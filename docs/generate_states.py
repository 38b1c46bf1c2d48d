"""Draws the state diagram in docs/reference/states.md from the table that the engine decides by.

``python docs/generate_states.py`` writes it; a test fails when the page is behind the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path

from penstock.states import TERMINAL, TRANSITIONS, StateType

PAGE = Path(__file__).parent / "reference" / "states.md"
BEGIN = "<!-- drawn by docs/generate_states.py: begin -->\n"
END = "<!-- drawn by docs/generate_states.py: end -->\n"


def diagram() -> str:
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


def updated(page: str) -> str:
    """The page with the diagram of today between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} has lost the marks around its diagram: {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{diagram()}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
