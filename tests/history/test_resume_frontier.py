"""The frontier as a structure: whatever was done to a program, no run gets the result of another one (G6)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.identity import Kept, Path, identity_of, is_vague, path_of
from penstock_history.resuming.frontier import Frontier, Interrupted, whatever_the_order
from penstock_results.references import ResultReference


@dataclass(frozen=True)
class Call:
    """A call in a made-up program: which task, of which code, with which argument, and what it calls in turn."""

    name: str
    code: str
    argument: object
    calls: tuple[Call, ...] = ()


class Lock:
    """An argument without a canonical form."""

    __slots__ = ("__weakref__",)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lock)

    def __hash__(self) -> int:
        return 0


@dataclass
class Named:
    name: str


@dataclass(eq=False)
class Run:
    """As much of a run as an identity is made of, and the call that it executes."""

    call: Call
    parent: Run | None
    position: int
    identity: str | None = None
    children: list[Run] = field(default_factory=list["Run"])

    @property
    def definition(self) -> Named:
        return Named(self.call.name)

    @property
    def parameters(self) -> dict[str, object]:
        return {"argument": self.call.argument}

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What a result may depend on, written down without digests."""
        around = self.parent.meaning if self.parent is not None else ()
        return (*around, (self.call.name, self.call.argument))


def execute(call: Call, parent: Run | None = None, position: int = 0) -> Run:
    """The runs of a program, in the order of its calls."""
    run = Run(call, parent, position)
    positions: dict[str, int] = {}
    for child in call.calls:
        place = positions.get(child.name, 0)
        positions[child.name] = place + 1
        run.children.append(execute(child, run, place))
    return run


def inside(run: Run) -> list[Run]:
    return [each for child in run.children for each in (child, *inside(child))]


def identity(run: Run) -> str:
    return identity_of(cast(Any, run))


def path(run: Run) -> Path:
    return path_of(cast(Any, run))


numbers = count()


def record(run: Run) -> Kept:
    """The run completes, with a result that no other run has."""
    reference = ResultReference("memory://", f"{next(numbers)}", 1, "int", "")
    return Kept(reference, identity(run), run.call.code, path(run))


def ask(frontier: Frontier, run: Run) -> ResultReference | None:
    return frontier.find(identity(run), run.call.code, path(run))


def calls(children: st.SearchStrategy[tuple[Call, ...]]) -> st.SearchStrategy[Call]:
    names, codes = st.sampled_from("ab"), st.sampled_from(["v1", "v2"])
    arguments = st.one_of(st.integers(0, 2), st.builds(Lock))
    return st.builds(Call, names, codes, arguments, children)


leaves = st.just(())
bodies = st.recursive(leaves, lambda inner: st.lists(calls(inner), max_size=4).map(tuple), max_leaves=12)
programs = bodies.map(lambda body: Call("flow", "v1", None, body))
completed = st.randoms(use_true_random=False)


def some(runs: list[Run], chance: random.Random) -> list[Run]:
    return [run for run in runs if chance.random() < 0.7]


@given(programs, completed)
def test_an_unchanged_program_finds_every_result_in_its_own_place(program: Call, chance: random.Random) -> None:
    done = {path(run): record(run) for run in some(inside(execute(program)), chance)}
    frontier = Frontier([done.values()])
    # As runs do: those ask whose own results are recorded, whatever the order, and then the others find nothing left.
    runs = inside(execute(program))
    chance.shuffle(runs)
    runs.sort(key=lambda run: path(run) not in done)
    for run in runs:
        own = done.get(path(run))
        found = ask(frontier, run)
        assert found == (own.reference if own is not None else None)


@given(programs, completed)
def test_a_changed_program_never_gets_the_result_of_another_run(program: Call, chance: random.Random) -> None:
    made = {run: record(run) for run in some(inside(execute(program)), chance)}
    origins = {kept.reference: run for run, kept in made.items()}
    frontier = Frontier([whatever_the_order(made.values())])
    given_away: set[ResultReference] = set()
    for run in inside(execute(changed(program, chance))):
        found = ask(frontier, run)
        if found is None:
            continue
        assert found not in given_away
        given_away.add(found)
        origin = origins[found]
        assert origin.meaning == run.meaning
        assert origin.call.code == run.call.code
        assert not any(isinstance(argument, Lock) for _, argument in run.meaning)


def changed(call: Call, chance: random.Random) -> Call:
    """The program after an edit: calls renamed, rewritten, given other arguments, removed, inserted and reordered."""
    inner = [changed(child, chance) for child in call.calls if chance.random() < 0.9]
    if chance.random() < 0.3:
        inner.insert(chance.randrange(len(inner) + 1), Call("a", "v1", chance.randrange(3)))
    if chance.random() < 0.3:
        chance.shuffle(inner)
    call = replace(call, calls=tuple(inner))
    edits: list[dict[str, Any]] = [{"name": "c"}, {"name": "a"}, {"code": "v3"}, {"argument": 2}, {"argument": Lock()}]
    return replace(call, **chance.choice(edits)) if chance.random() < 0.2 and call.name != "flow" else call


@given(programs, completed)
def test_another_order_finds_as_many_results(program: Call, chance: random.Random) -> None:
    runs = [run for run in inside(execute(program)) if not is_vague(identity(run))]
    done = [record(run) for run in some(runs, chance)]
    shuffled = shuffle(program, chance)
    frontier = Frontier([whatever_the_order(done)])
    found = [ask(frontier, run) for run in inside(execute(shuffled))]
    assert sum(one is not None for one in found) == len(done)


def shuffle(call: Call, chance: random.Random) -> Call:
    inner = [shuffle(child, chance) for child in call.calls]
    chance.shuffle(inner)
    return Call(call.name, call.code, call.argument, tuple(inner))


@given(programs, completed)
def test_what_a_chain_of_resumes_knows_is_the_union_and_each_result_once(program: Call, chance: random.Random) -> None:
    """Each resume finds some of what was done, does some more, and is interrupted in its turn."""
    generations: list[list[Kept]] = []
    truth: dict[Any, ResultReference] = {}
    for _ in range(3):
        frontier, mine = Frontier(generations), list[Kept]()
        for run in some(inside(execute(program)), chance):
            found = ask(frontier, run)
            kept = record(run)
            if found is not None:
                kept = replace(kept, reference=found)
            truth[path(run)] = kept.reference
            mine.insert(0, kept)
        generations.insert(0, mine)
    frontier = Frontier(generations)
    found_at_last = [ask(frontier, run) for run in inside(execute(program))]
    references = [one for one in found_at_last if one is not None]
    assert len(references) == len(set(references)) == len(set(truth.values()))


def test_code_that_changed_ends_what_rests_on_the_order_of_calls() -> None:
    locked, plain = inside(execute(Call("flow", "v1", None, (Call("a", "v1", Lock()), Call("a", "v1", 1)))))
    done = [record(locked), record(plain)]
    assert ask(Frontier([done]), locked) is not None
    changed = Frontier([whatever_the_order(done)])
    assert ask(changed, locked) is None
    assert ask(changed, plain) is not None


def test_what_has_no_canonical_form_rests_on_the_order_of_calls() -> None:
    first, second = inside(execute(Call("flow", "v1", None, (Call("a", "v1", Lock()), Call("a", "v1", Lock())))))
    done = record(second)
    frontier = Frontier([[done]])
    assert [ask(frontier, run) for run in (first, second)] == [None, done.reference]


def test_the_flow_around_is_asked_last() -> None:
    (run,) = inside(execute(Call("flow", "v1", None, (Call("a", "v1", 1),))))
    first, second = record(run), record(run)
    outer = Frontier([[first]], {(("a", 0),): Interrupted(1)})
    inner = Frontier([[second]], outer=outer)
    assert [ask(inner, run) for _ in range(3)] == [second.reference, first.reference, None]
    assert inner.interrupted((("a", 0),)) == Interrupted(1)


@pytest.mark.parametrize("argument", [0, "x", (1, 2), None])
def test_a_vague_argument_makes_what_is_called_inside_vague_too(argument: object) -> None:
    program = Call("flow", "v1", None, (Call("sub", "v1", Lock(), (Call("a", "v1", argument),)),))
    sub, inner = inside(execute(program))
    assert is_vague(identity(sub))
    assert is_vague(identity(inner))
