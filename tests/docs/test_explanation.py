"""The explanation pages say what is so: their claims about tests and imports are looked up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BORDER = {"penstock.errors", "penstock.ports", "penstock.clock"}
CLOSER = {
    "penstock_runners.threads",
    "penstock_runners.inprocess",
    "penstock_runners.worker",
    "penstock_runners.visits",
}
FACES = {"penstock.runners", "penstock.results"}


def table_rows(page: str) -> list[list[str]]:
    """The cells of a page's tables, row by row."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")]


def test_the_tests_that_show_a_guarantee_exist() -> None:
    shown = [row[1] for row in table_rows("explanation/guarantees.md")[1:]]
    for cell in shown:
        files = [(DOCS / "explanation" / link).resolve() for link in re.findall(r"\]\(([^)]+)\)", cell)]
        text = "".join(file.read_text(encoding="utf-8") for file in files if file.suffix == ".py")
        tests = re.findall(r"`(test_\w+)`", cell)
        assert tests, cell
        assert [test for test in tests if f"def {test}(" not in text] == []
    assert len(shown) == 10


@cache
def imports() -> dict[str, set[str]]:
    """What each module of ours imports when it is imported itself."""
    files = {
        name: file for package in ("penstock", "penstock_runners", "penstock_results") for name, file in of(package)
    }
    return {
        name: set(imported(ast.parse(file.read_text("utf-8")), set(files))) - {name} for name, file in files.items()
    }


def of(package: str) -> Iterator[tuple[str, Path]]:
    spec = find_spec(package)
    assert spec is not None
    for root in map(Path, spec.submodule_search_locations or ()):
        for file in root.rglob("*.py"):
            name = ".".join((package, *file.relative_to(root).with_suffix("").parts))
            yield name.removesuffix(".__init__"), file


def imported(node: ast.AST, ours: set[str]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom):
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from {name if name in ours else str(child.module) for name in names} & ours
        elif isinstance(child, ast.Import):
            yield from {alias.name for alias in child.names} & ours
        yield from imported(child, ours)


def test_imports_point_one_way() -> None:
    rows = [re.findall(r"`([\w.]+)`", row[1]) for row in table_rows("explanation/architecture.md") if len(row) == 2]
    row_of = {
        name if name == "penstock" else f"penstock.{name}": number for number, row in enumerate(rows) for name in row
    }
    engine = {name: others for name, others in imports().items() if name.startswith("penstock.") or name == "penstock"}
    assert row_of.keys() == engine.keys(), "the page lists the modules there are"
    upward = [
        f"{name} imports {other}"
        for name, others in engine.items()
        for other in others & engine.keys()
        if row_of[other] > row_of[name]
    ]
    assert upward == []


def test_no_imports_go_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in done:
            for other in imports()[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in imports():
        visit(name, ())
    assert len(done) > 80


def test_the_packages_meet_at_few_places() -> None:
    for name, others in imports().items():
        package = name.partition(".")[0]
        foreign = {other for other in others if other.partition(".")[0] != package}
        if package == "penstock":
            assert not foreign or name in FACES, name
        elif name not in CLOSER:
            assert foreign <= BORDER, name
