"""The pages as a site: it builds without a warning, its links lead somewhere, and it needs no network."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from promised import PROMISED
from sphinx.util.inventory import InventoryFile

DOCS = Path(__file__).parents[2] / "docs"


class Page(HTMLParser):
    """What a page points at, and what can be pointed at in it.

    Attributes:
        links: Where its links lead.
        resources: What a browser loads to show it.
        anchors: The ids of its elements.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.resources: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in given:
            self.resources.add(given["src"])
        if tag == "link" and "href" in given:
            self.resources.add(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    out = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(DOCS), str(out)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """All pages of the site."""
    pages = {file: Page(file) for file in site.rglob("*.html") if "_static" not in file.parts}
    assert len(pages) > 40
    return pages


def test_links_lead_somewhere(pages: dict[Path, Page]) -> None:
    broken = []
    for file, page in pages.items():
        for link in page.links:
            target, fragment = urldefrag(link)
            if re.match(r"[a-z]+:", target):
                continue
            path = (file.parent / unquote(target)).resolve() if target else file
            if not path.exists():
                broken.append(f"{file.name}: {link}")
            elif fragment and path in pages and unquote(fragment) not in pages[path].anchors:
                broken.append(f"{file.name}: {link} (no such place)")
    assert broken == []


def test_pages_load_nothing_from_the_network(pages: dict[Path, Page]) -> None:
    loaded = {resource for page in pages.values() for resource in page.resources}
    assert loaded
    assert [resource for resource in loaded if re.match(r"(https?:)?//", resource)] == []


def test_search_works_from_files(site: Path) -> None:
    """The index is a script, which a browser loads without a server; it knows the words of the pages."""
    source = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(source.removeprefix("Search.setIndex(").removesuffix(")"))
    found = index["terms"]["helm"]
    names = {index["docnames"][number] for number in (found if isinstance(found, list) else [found])}
    assert "howto/kubernetes" in names
    assert "Engine" in {entry[-1] for entry in index["objects"]["penstock"]}


def test_diagrams_are_drawn(site: Path) -> None:
    for page in ("reference/states", "explanation/architecture", "explanation/attempts-travel"):
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        assert "<svg" in text
        for source in ("stateDiagram-v2", "flowchart TD", "sequenceDiagram\n"):
            assert source not in text


@pytest.mark.parametrize("name", ["penstock", *PROMISED])
def test_every_public_name_is_described(name: str, site: Path) -> None:
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, page: page)
    described = {entry.rpartition(".")[2] for kind in inventory.values() for entry in kind}
    assert sorted(set(import_module(name).__all__) - described - {"__version__"}) == []


def test_what_is_generated_is_current() -> None:
    generated = dict(runpy.run_path(str(DOCS / "generate.py"))["generated"]())
    assert len(generated) > 8
    behind = [path.name for path, text in generated.items() if not path.exists() or path.read_text("utf-8") != text]
    assert behind == [], "run docs/generate.py"
    programs = {path for path in generated if path.suffix == ".py"}
    assert {path for path in (DOCS / "examples").glob("*.py") if path.name != "flights.py"} == programs
