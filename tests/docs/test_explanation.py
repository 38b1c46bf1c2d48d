"""The explanation pages say what is so: their claims about tests and imports are looked up."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BORDER = {"penstock.brief_threads", "penstock.errors", "penstock.ports", "penstock.clock", "penstock.settings"}
CLOSER = {
    "penstock_runners.threads",
    "penstock_runners.inprocess",
    "penstock_runners.worker",
    "penstock_runners.visits",
}
SUITES = {"penstock_runners.probes", "penstock_runners.testing_endings"}
FACES = {"penstock.runners", "penstock.results", "penstock.history"}


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
    assert len(shown) == 12


@cache
def imports() -> dict[str, frozenset[str]]:
    """What each module of ours imports when it is imported itself."""
    modules = runpy.run_path(str(DOCS / "code_map.py"))["modules"]()
    return {name: module.imports for name, module in modules.items()}


def test_imports_point_one_way() -> None:
    rows = [re.findall(r"`([\w.]+)`", row[1]) for row in table_rows("explanation/architecture.md") if len(row) == 2]
    listed = {
        name if name == "penstock" else f"penstock.{name}": number for number, row in enumerate(rows) for name in row
    }
    engine = {name: others for name, others in imports().items() if name.startswith("penstock.") or name == "penstock"}
    row_of = {name: row for name in engine if (row := row_of_module(name, listed)) is not None}
    assert engine.keys() - row_of.keys() == set(), "the page lists the modules there are"
    assert listed.keys() - engine.keys() == set(), "the page lists no others"
    upward = [
        f"{name} imports {other}"
        for name, others in engine.items()
        for other in others & engine.keys()
        if row_of[other] > row_of[name]
    ]
    assert upward == []


def row_of_module(name: str, listed: dict[str, int]) -> int | None:
    """The row of a module, or of the package around it; the name of the whole does not stand for its parts."""
    while name not in listed and name.count(".") > 1:
        name = name.rpartition(".")[0]
    return listed.get(name)


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
            assert not foreign or name in FACES or name.startswith("penstock.cli."), name
        elif package != "penstock_history" and name not in CLOSER:
            assert foreign <= BORDER | ({"penstock.testing"} if name in SUITES else set()), name
