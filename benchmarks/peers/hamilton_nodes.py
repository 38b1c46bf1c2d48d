"""The nodes of with_hamilton.py's graph, in a module that its workers can import."""

import work
from hamilton.htypes import Collect, Parallelizable


def item(items: list) -> Parallelizable[int]:
    yield from items


def same(item: int) -> int:
    return work.identity(item)


def burnt(item: int) -> int:
    return work.burn(item)


def sames(same: Collect[int]) -> list:
    return list(same)


def burnts(burnt: Collect[int]) -> list:
    return list(burnt)
