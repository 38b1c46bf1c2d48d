"""``penstock cache``: why a call of a task is answered from the store, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import Cell, json_option, print_facts, print_json
from penstock.cli.targets import find_task, parameters_option, read_parameters

if TYPE_CHECKING:
    from penstock.explain import CacheExplanation

__all__ = ("command",)


@click.group("cache")
def command() -> None:
    """Understand the cache."""


@command.command("explain")
@click.argument("target")
@parameters_option
@json_option
def explain(target: str, given: tuple[str, ...], as_json: bool) -> None:
    """Tell whether a call of a task would find a stored result, and if not, what is different this time.

    TARGET is path/to/file.py:task or module:task. Nothing runs and nothing is stored.
    """
    from penstock.explain import explain_cache

    task = find_task(target)
    args, kwargs = read_parameters(task, given)
    answer = explain_cache(task, *args, **kwargs)
    if as_json:
        names = ("hit", "reason", "key", "components", "compared_with", "changed")
        print_json({name: getattr(answer, name) for name in names})
        return
    print_facts(
        {
            "answer": Cell("hit", "green") if answer.hit else Cell("miss", "yellow"),
            "why": answer.reason,
            "key": answer.key,
            **_components(answer),
            "compared with": answer.compared_with,
        }
    )


def _components(answer: CacheExplanation) -> dict[str, str | Cell]:
    """What the key is made of, and which of it is different from the newest other result."""
    told: dict[str, str | Cell] = {f"key: {name}": digest for name, digest in answer.components.items()}
    for name in answer.changed:
        told[f"key: {name}"] = Cell(f"{answer.components.get(name, 'not in this call')}  (changed)", "yellow")
    return told
