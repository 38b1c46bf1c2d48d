"""A store beside a dictionary: whatever is done to both, they hold the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from virtual_clock import VirtualClock

from penstock.errors import ResultCorrupt, ResultMissing
from penstock.results import ResultReference, ResultStore

KEYS = st.sampled_from(["a", "a/b", "a/b/c", "ab", "run-1/x", "run-1/y", "run-10/x"])
PREFIXES = st.sampled_from(["a", "a/", "ab", "run-1", "run-1/", "zzz"])
VALUES = st.one_of(
    st.integers(),
    st.text(max_size=20),
    st.tuples(st.binary(max_size=40), st.floats(allow_nan=False)),
    st.integers(60_000, 200_000).map(bytes),
)
LIFETIMES = st.one_of(st.none(), st.integers(1, 20))


class Model(RuleBasedStateMachine):
    """The store under test and its oracle: key -> (value, when it expires, order of writing)."""

    url: str
    options: dict[str, Any]
    folders: Iterator[int]

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.store = ResultStore(
            f"{self.url}/{next(self.folders)}", storage_options=self.options, clock=self.clock, compression="lz4"
        )
        self.model: dict[str, tuple[Any, float, int]] = {}
        self.order = itertools.count()
        self.references: list[tuple[ResultReference, Any]] = []

    @rule(key=KEYS, value=VALUES, lifetime=LIFETIMES)
    def write(self, key: str, value: Any, lifetime: int | None) -> None:
        expires = None if lifetime is None else timedelta(seconds=lifetime)
        reference = self.store.write(value, key, expires=expires)
        end = float("inf") if lifetime is None else self.clock.time() + lifetime
        self.model[key] = (value, end, next(self.order))
        self.references.append((reference, value))
        self.clock.advance(0.5)

    @rule(key=KEYS)
    def read(self, key: str) -> None:
        if self.alive(key):
            assert self.store.read(key) == self.model[key][0]
            assert self.store.info(key).key == key
        else:
            for ask in (self.store.read, self.store.info):
                with pytest.raises(ResultMissing):
                    ask(key)
        assert self.store.exists(key) is self.alive(key)

    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        if self.references:
            reference, value = data.draw(st.sampled_from(self.references))
            try:
                assert reference.load() == value
            except (ResultMissing, ResultCorrupt):
                assert not self.alive(reference.key) or self.model[reference.key][0] != value

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        if self.model.pop(key, None) is None:
            with pytest.raises(ResultMissing):
                self.store.delete(key)
        else:
            self.store.delete(key)

    @rule(prefix=PREFIXES)
    def delete_prefix(self, prefix: str) -> None:
        doomed = [key for key in self.model if key.startswith(prefix)]
        assert self.store.delete_prefix(prefix) == sorted(doomed)
        for key in doomed:
            del self.model[key]

    @rule(prefix=PREFIXES, count=st.integers(0, 3))
    def keep_last(self, prefix: str, count: int) -> None:
        found = sorted((self.model[key][2], key) for key in self.model if key.startswith(prefix))
        doomed = [key for _, key in found[: max(0, len(found) - count)]]
        assert self.store.keep_last(count, prefix=prefix) == doomed
        for key in doomed:
            del self.model[key]

    @rule(seconds=st.integers(1, 10))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(dry_run=st.booleans())
    def gc(self, dry_run: bool) -> None:
        expired = sorted(key for key in self.model if not self.alive(key))
        assert self.store.gc(dry_run=dry_run).expired == tuple(expired)
        if not dry_run:
            for key in expired:
                del self.model[key]

    @invariant()
    def same_keys(self) -> None:
        assert self.store.keys() == sorted(self.model)

    def alive(self, key: str) -> bool:
        return key in self.model and self.model[key][1] > self.clock.time()


@pytest.fixture
def machine(place: tuple[str, dict[str, Any]]) -> type[Model]:
    url, options = place
    return type("Placed", (Model,), {"url": url, "options": options, "folders": itertools.count()})


def test_a_store_does_what_a_dictionary_does(machine: type[Model]) -> None:
    examples = 15 if machine.url.startswith("s3") else 60
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
