"""What the packages consist of, read from their source: for the architecture page, and for the tests that check it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("penstock", "penstock_runners", "penstock_results", "penstock_history")
FACES = ("penstock.runners", "penstock.results", "penstock.history")


class Module(NamedTuple):
    """One module.

    Attributes:
        summary: The first line of its docstring.
        imports: The modules of ours that it imports when it is imported itself.
        imports_later: Those that its functions import.
    """

    summary: str
    imports: frozenset[str]
    imports_later: frozenset[str]


@cache
def modules() -> dict[str, Module]:
    """Every module of the packages, by its name."""
    files = {name: file for package in PACKAGES for name, file in files_of(package)}
    return {name: read(name, file, set(files)) for name, file in sorted(files.items())}


def files_of(package: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package, with their files."""
    spec = find_spec(package)
    assert spec is not None, package
    for root in map(Path, spec.submodule_search_locations or ()):
        for file in root.rglob("*.py"):
            name = ".".join((package, *file.relative_to(root).with_suffix("").parts))
            yield name.removesuffix(".__init__"), file


def read(name: str, file: Path, ours: set[str]) -> Module:
    """Read a module's source, without importing it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    summary = (ast.get_docstring(tree) or "").partition("\n\n")[0].replace("\n", " ")
    found = {True: set[str](), False: set[str]()}
    for others, at_once in imported(tree, ours, at_once=True):
        found[at_once] |= others
    now = found[True] - {name}
    return Module(summary, frozenset(now), frozenset(found[False] - now - {name}))


def imported(node: ast.AST, ours: set[str], at_once: bool) -> Iterator[tuple[set[str], bool]]:
    """The imports below a node, each with whether it happens when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom):
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield {name if name in ours else str(child.module) for name in names} & ours, at_once
        elif isinstance(child, ast.Import):
            yield {alias.name for alias in child.names} & ours, at_once
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from imported(child, ours, at_once and not later)


def diagram() -> str:
    """Who imports whom, as a Mermaid flowchart: solid when it is imported itself, dotted when first needed."""
    now, later = set[tuple[str, str]](), set[tuple[str, str]]()
    for name, module in modules().items():
        now |= {(part_of(name), part_of(other)) for other in module.imports}
        later |= {(part_of(name), part_of(other)) for other in module.imports_later}
    lines = ["```mermaid", "flowchart TD", *(f'    {part}["{text}"]' for part, text in PARTS.items())]
    lines += [f"    {one} --> {other}" for one, other in sorted(now) if one != other]
    lines += [f"    {one} -.-> {other}" for one, other in sorted(later - now) if one != other]
    return "\n".join([*lines, "```"]) + "\n"


PARTS = {
    "cli": "the command: penstock.cli",
    "faces": "faces: penstock.runners .results .history",
    "engine": "the engine: penstock",
    "runners": "penstock_runners",
    "results": "penstock_results",
    "history": "penstock_history",
}


def part_of(name: str) -> str:
    """The part of the house that a module belongs to."""
    package, _, rest = name.partition(".")
    if package != "penstock":
        return package.removeprefix("penstock_")
    if name in FACES:
        return "faces"
    return "cli" if rest in ("cli", "__main__") or rest.startswith("cli.") else "engine"
