"""The reference pages say what the code does: they are compared with it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import pytest
from peer_names import NAMES

from penstock import Flow, State, Task
from penstock.states import TRANSITIONS, StateType

DOCS = Path(__file__).parents[2] / "docs"
KINDS = (Flow.kind, Task.kind)


def sources() -> Iterator[ast.Module]:
    """The modules of the packages that this test runs against."""
    for package in ("penstock", "penstock_runners", "penstock_results", "penstock_history"):
        spec = find_spec(package)
        assert spec is not None
        for place in spec.submodule_search_locations or ():
            for file in sorted(Path(place).rglob("*.py")):
                if file.name == "faults.py":  # how tests kill processes is no setting
                    continue
                yield ast.parse(file.read_text(encoding="utf-8"))


def names_in(argument: ast.expr) -> Iterator[str]:
    """What the first argument of a call of `settings` can be: a constant, or one name for flows and one for tasks."""
    if isinstance(argument, ast.Constant):
        yield argument.value
        return
    assert ast.unparse(argument).startswith("f'{self.kind}_"), f"unknown kind of setting: {ast.unparse(argument)}"
    for kind in KINDS:
        yield ast.unparse(argument)[2:-1].replace("{self.kind}", kind)


def variables_of_the_code() -> set[str]:
    """Every variable that is read: through `settings`, or from the environment by its full name."""
    found: set[str] = set()
    for tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = ast.unparse(node.func)
            if called == "settings":
                found |= {f"PENSTOCK_{name.upper()}" for name in names_in(node.args[0])}
            elif called in ("os.environ.get", "os.getenv"):
                found |= set(re.findall(r"'(PENSTOCK_\w+)'", ast.unparse(node.args[0])))
    return found


def test_the_settings_page_lists_exactly_the_variables_that_are_read() -> None:
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(PENSTOCK_\w+)`", page, re.MULTILINE)) == sorted(variables_of_the_code())


def test_the_state_diagram_is_that_of_the_table() -> None:
    """That the page is current is looked at in test_site.py."""
    page = (DOCS / "reference" / "states.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^    (\S+) --> (\S+)$", page, re.MULTILINE))
    steps = {(before, after) for before, followers in TRANSITIONS.items() for after in followers}
    assert {(b.value if b else "[*]", a.value) for b, a in steps} == {step for step in drawn if step[1] != "[*]"}
    assert {before for before, after in drawn if after == "[*]"} == {t.value for t in StateType if State(t).is_final()}


def test_the_states_page_names_every_type() -> None:
    page = (DOCS / "reference" / "states.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z]+)` \| [A-Z]", page, re.MULTILINE) == [type_.value for type_ in StateType]


def rows(page: str) -> Iterator[str]:
    """The cells of the page's tables that name things of ours."""
    for line in page.splitlines():
        if line.startswith("| "):
            yield from re.findall(r"`(penstock(?:\.\w+)*)`", line)


def test_every_name_that_the_migration_page_promises_exists() -> None:
    page = (DOCS / "explanation" / "coming-from-prefect.md").read_text(encoding="utf-8")
    names = set(rows(page))
    assert len(names) > 40
    assert sorted(name for name in names if not exists(name)) == []


def exists(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_option_that_the_migration_page_promises_exists() -> None:
    """The first cells are the peer's options; ours take the same and say so by refusing none."""
    page = (DOCS / "explanation" / "coming-from-prefect.md").read_text(encoding="utf-8")
    for kind in (Task, Flow):
        (line,) = re.findall(rf"^\| `@{kind.kind}`: (.*?) \| the same \|$", page, re.MULTILINE)
        promised = set(re.findall(r"`(\w+)`", line)) - {"version", "result_storage_key"}
        assert promised - set(inspect.signature(kind.with_options).parameters) == set()


@pytest.mark.parametrize("place", NAMES)
def test_the_migration_page_accounts_for_every_name_of_the_peer(place: str) -> None:
    page = (DOCS / "explanation" / "coming-from-prefect.md").read_text(encoding="utf-8")
    accounted = {name for code in re.findall(r"`([^`]+)`", page) for name in (code, code.partition("(")[0])}
    assert sorted(set(NAMES[place].split()) - accounted) == []
