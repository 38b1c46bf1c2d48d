# From docs/howto/custom-store.md.
"""Results on a filesystem of one's own: register it with fsspec, and put it through the suite."""

import itertools
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from penstock import Engine, flow, task
from penstock.cache_policies import INPUTS
from penstock.results import ResultStore
from penstock.testing import ResultStoreTests


class Vault(MemoryFileSystem):
    protocol = "vault"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("vault://")))


fsspec.register_implementation("vault", Vault)

numbers = itertools.count()


class TestVault(ResultStoreTests):
    @pytest.fixture
    def open_store(self):
        url = f"vault://test-{next(numbers)}"  # a place of its own for each test
        return lambda **options: ResultStore(url, **options)


@task(cache_policy=INPUTS)
def square(number: int) -> int:
    return number * number


@flow
def squares(numbers: list[int]) -> list[int]:
    return square.map(numbers).result()


if __name__ == "__main__":
    with Engine(results="vault://results"):
        assert squares([1, 2, 3]) == [1, 4, 9]
        assert square(3, return_state=True).name == "Cached"
