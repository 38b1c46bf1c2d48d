"""The documentation as a site: ``make docs`` builds it into site/, with every warning an error.

Why Sphinx: the docstrings are written for it (`` `name` `` is a reference, and one that leads nowhere fails the build),
its search works from files, without a server, and it is kept. MkDocs has had no release since August 2024, and what
Material for MkDocs is to be replaced by calls its reference from docstrings preliminary.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import mermaidx
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import penstock

sys.path.insert(0, str(Path(__file__).parent))

import code_map

project = "Penstock"
author = "the Penstock maintainers"
version = release = penstock.__version__
root_doc = "index"
exclude_patterns = ["examples"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough"]

default_role = "py:obj"
nitpicky = True
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
# In signatures, names that exist for type checkers only; what docstrings say in backquotes is always looked up.
nitpick_ignore_regex = [("py:class", r"\w+|[\w.]+\[\w+"), ("py:obj", r"typing\.~P")]

html_theme = "furo"
html_title = f"Penstock {version}"
html_show_sourcelink = False
html_copy_source = False


class Drawn(SphinxPostTransform):
    """Puts a picture in the place of each Mermaid block, so that pages need neither a script nor a network."""

    default_priority = 100

    def run(self, **_: Any) -> None:
        for block in list(self.document.findall(nodes.literal_block)):
            if block.get("language") == "mermaid":
                block.replace_self(nodes.raw("", picture(block.astext()), format="html"))


def picture(source: str) -> str:
    """A Mermaid diagram as SVG, as wide as the page at most."""
    svg = mermaidx.render(source, theme="neutral").svg()
    return f'<div class="diagram" style="overflow-x: auto; background: white; padding: 1em">{svg}</div>'


class ModuleMap(SphinxDirective):
    """A table for each package: its modules, and the first sentence of each one's docstring."""

    def run(self) -> list[nodes.Node]:
        return [self.section(package) for package in code_map.PACKAGES]

    def section(self, package: str) -> nodes.Node:
        section = nodes.section("", nodes.title(text=package), ids=[package])
        rows = [(name, module.summary) for name, module in code_map.modules().items() if within(name, package)]
        group = nodes.tgroup("", nodes.colspec(colwidth=30), nodes.colspec(colwidth=70), cols=2)
        group += nodes.tbody("", *(self.row(*row) for row in rows))
        section += nodes.table("", group)
        return section

    def row(self, name: str, summary: str) -> nodes.row:
        inline, _ = self.state.inline_text(summary, self.lineno)
        code = nodes.paragraph("", "", nodes.literal(text=name))
        return nodes.row("", nodes.entry("", code), nodes.entry("", nodes.paragraph("", "", *inline)))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def resolve(app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.TextElement) -> Any:
    """Find what a name in a docstring or in a signature means where the page does not say so in full.

    One thing of the reference whose name ends like this is linked. Anything else that exists, in Python or in our
    modules, is shown as code. What does not exist is left to Sphinx, which fails the build.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    found = env.domains["py"].find_obj(env, None, None, target, None, 1)  # type: ignore[attr-defined]
    if len({(entry.docname, entry.node_id) for _, entry in found}) == 1:
        name, entry = found[0]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)
    return content if any(map(exists, candidates(node, target))) else None


def candidates(node: nodes.Element, target: str) -> Iterator[str]:
    """Where a name may be looked for, from a docstring's module and class outwards."""
    module, owner = node.get("py:module") or "penstock", node.get("py:class")
    if owner and exists(f"{module}.{owner}"):
        yield f"{module}.{owner}.{target}"
        yield f"{resolve_name(f'{module}.{owner}').__module__}.{target}"
    yield from (f"{package}.{target}" for package in (module, "penstock", "builtins", "typing"))
    yield target


def exists(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return True


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("module-map", ModuleMap)
    app.add_post_transform(Drawn)
    app.connect("missing-reference", resolve)
    # What stands before a colon in a property's docstring is a sentence, and not, as napoleon has it, a type.
    GoogleDocstring._parse_attribute_docstring = GoogleDocstring._consume_to_end
