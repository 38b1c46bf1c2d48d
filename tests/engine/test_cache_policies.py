from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from penstock.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFn,
    CachePolicy,
    CacheRequest,
    Inputs,
    task_input_hash,
)
from penstock.errors import ConfigurationError, InvalidCall, UnhashableInput


@dataclass
class ATask:
    """What a policy knows of a task."""

    fn: Callable[..., Any]
    name: str = "load"


def load(x: int, y: int = 2) -> int:
    return x + y


def other(x: int, y: int = 2) -> int:
    return x + y


@dataclass
class Poison:
    """An input that must not be hashed."""

    client: object = field(default_factory=object)


def request(fn: Callable[..., Any] = load, name: str = "load", **changes: Any) -> CacheRequest:
    facts: dict[str, Any] = {"inputs": {"x": 1, "y": 2}, "flow_parameters": {"p": 1}, "flow_run_id": "run-1"} | changes
    return CacheRequest(ATask(fn, name), **facts)


KEYED = {
    "inputs": INPUTS,
    "source": TASK_SOURCE,
    "run": RUN_ID,
    "parameters": FLOW_PARAMETERS,
    "default": DEFAULT,
    "all": INPUTS + TASK_SOURCE + RUN_ID + FLOW_PARAMETERS,
}


@pytest.mark.parametrize("policy", KEYED.values(), ids=KEYED)
def test_a_key_is_stable_and_fits_every_store(policy: CachePolicy) -> None:
    key = policy.compute_key(request())
    assert key is not None
    assert re.fullmatch(r"v1-[0-9a-f]{64}", key)
    assert policy.compute_key(request()) == key
    assert policy.compute_key(request(inputs={"y": 2, "x": 1})) == key


@pytest.mark.parametrize("policy", KEYED.values(), ids=KEYED)
def test_two_tasks_never_share_a_key(policy: CachePolicy) -> None:
    keys = {
        policy.compute_key(request(load)),
        policy.compute_key(request(other)),
        policy.compute_key(request(load, name="renamed")),
        policy.compute_key(request(lambda x, y=2: x + y)),
        policy.compute_key(request(lambda x, y=2: x * y)),
    }
    assert len(keys) == 5


CHANGES: dict[str, dict[str, Any]] = {
    "inputs": {"inputs": {"x": 1, "y": 3}},
    "run": {"flow_run_id": "run-2"},
    "parameters": {"flow_parameters": {"p": 2}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_policy_sees_what_it_names_and_nothing_else(change: str) -> None:
    for name, policy in KEYED.items():
        parts = {"default": {"inputs", "run"}, "all": set(CHANGES)}.get(name, {name})
        differs = policy.compute_key(request()) != policy.compute_key(request(**CHANGES[change]))
        assert differs == (change in parts)


def test_source_sees_the_code_and_inputs_do_not() -> None:
    def version(body: str) -> Callable[..., Any]:
        namespace: dict[str, Any] = {"__name__": "users_module"}
        exec(f"def load(x, y=2):\n    return {body}", namespace)
        return namespace["load"]  # type: ignore[no-any-return]

    first, second = request(version("x")), request(version("y"))
    assert INPUTS.compute_key(first) == INPUTS.compute_key(second)
    assert TASK_SOURCE.compute_key(first) != TASK_SOURCE.compute_key(second)
    assert DEFAULT.compute_key(first) != DEFAULT.compute_key(second)


def test_outside_of_a_flow_there_is_no_run_and_nothing_is_hashed() -> None:
    outside = request(flow_run_id=None, flow_parameters=None, inputs={"x": Poison()})
    for policy in (RUN_ID, FLOW_PARAMETERS, DEFAULT, INPUTS + FLOW_PARAMETERS, RUN_ID + INPUTS):
        assert policy.compute_key(outside) is None
        assert policy.components(outside) is None
    assert INPUTS.compute_key(request(flow_run_id=None)) is not None


# Exclusion and sums


@pytest.mark.parametrize("policy", [INPUTS - "y", DEFAULT - "y", Inputs(exclude=["y"]), (INPUTS - "y") + TASK_SOURCE])
def test_an_excluded_input_is_not_hashed(policy: CachePolicy) -> None:
    key = policy.compute_key(request())
    assert policy.compute_key(request(inputs={"x": 1, "y": Poison()})) == key
    assert policy.compute_key(request(inputs={"x": 2, "y": 2})) != key


def test_excluding_from_a_policy_without_inputs_adds_the_others() -> None:
    policy = RUN_ID - "y"
    assert policy.compute_key(request()) != policy.compute_key(request(inputs={"x": 9, "y": 2}))
    assert policy.compute_key(request()) == policy.compute_key(request(inputs={"x": 1, "y": 9}))
    assert (INPUTS - "x" - "y").components(request()) == (INPUTS - "y" - "x").components(request())
    with pytest.raises(InvalidCall, match="subtract the name of a parameter"):
        INPUTS - 3  # type: ignore[operator]


def test_the_order_of_a_sum_does_not_count() -> None:
    keys = {
        (INPUTS + TASK_SOURCE + RUN_ID).compute_key(request()),
        (RUN_ID + (TASK_SOURCE + INPUTS)).compute_key(request()),
        (DEFAULT + NO_CACHE).compute_key(request()),
    }
    assert len(keys) == 1


def test_no_cache_has_no_key_and_says_so_cheaply() -> None:
    assert NO_CACHE is NONE
    assert NO_CACHE.is_none
    assert not NO_CACHE
    assert (NO_CACHE - "x").is_none
    assert (NO_CACHE + NO_CACHE).is_none
    assert NO_CACHE.compute_key(request(inputs={"x": Poison()})) is None
    for policy in KEYED.values():
        assert policy
        assert not policy.is_none
        assert NO_CACHE + policy == policy


def test_an_input_without_a_canonical_form_is_an_error_that_names_it_and_never_a_weaker_key() -> None:
    for policy in (INPUTS, DEFAULT, TASK_SOURCE + INPUTS):
        with pytest.raises(UnhashableInput, match=r"argument y\.client: a builtins\.object has no canonical form"):
            policy.compute_key(request(inputs={"x": 1, "y": Poison()}))
    with pytest.raises(UnhashableInput, match=r"flow parameter p\[0\]"):
        FLOW_PARAMETERS.compute_key(request(flow_parameters={"p": [object()]}))


def test_components_name_what_changed() -> None:
    before = KEYED["all"].components(request())
    after = KEYED["all"].components(request(inputs={"x": 1, "y": 3}))
    assert before is not None
    assert after is not None
    assert set(before) == {"task", "code", "flow_run", "flow_parameters.p", "inputs.x", "inputs.y"}
    assert {name for name in before if before[name] != after[name]} == {"inputs.y"}


# Settings


def test_settings_travel_with_the_policy_and_must_agree() -> None:
    stored = INPUTS.configure(key_storage="/keys")
    assert INPUTS.key_storage is None
    assert (stored + RUN_ID).key_storage == "/keys"
    assert (RUN_ID + stored - "x").key_storage == "/keys"
    assert stored.configure(isolation_level="SERIALIZABLE").key_storage == "/keys"
    assert stored.compute_key(request()) == INPUTS.compute_key(request())
    with pytest.raises(ConfigurationError, match="key_storage differ"):
        stored + RUN_ID.configure(key_storage="/elsewhere")


# Key functions


def test_a_key_function_has_the_last_word() -> None:
    seen = list[Any]()

    def key_fn(context: Any, arguments: dict[str, Any]) -> str:
        seen.append((context.task.name, context.parameters, context.task_run))
        return f"static-{arguments['x']}"

    policy = CacheKeyFn(key_fn)
    assert policy.compute_key(request(task_run="the run")) == "static-1"
    assert seen == [("load", {"x": 1, "y": 2}, "the run")]
    assert CachePolicy.from_cache_key_fn(key_fn) == policy
    assert policy.compute_key(request(other)) == "static-1"
    assert policy.components(request()) == {"cache_key_fn": "static-1"}


@pytest.mark.parametrize("text", ["", "../../etc/passwd", "a b", "grüße", "x" * 500, ".hidden", "a/b"])
def test_a_key_that_no_store_would_take_is_hashed(text: str) -> None:
    key = CacheKeyFn(lambda context, arguments: text).compute_key(request())
    assert key is not None
    assert re.fullmatch(r"v1-[0-9a-f]{64}", key)
    assert key != CacheKeyFn(lambda context, arguments: text + "!").compute_key(request())


def test_a_key_function_without_a_key_turns_the_sum_off() -> None:
    policy = INPUTS + CacheKeyFn(lambda context, arguments: None)
    assert policy.compute_key(request(inputs={"x": Poison()})) is None


def test_a_key_function_that_fails_is_named() -> None:
    def broken(context: Any, arguments: dict[str, Any]) -> str:
        raise KeyError("nope")

    with pytest.raises(UnhashableInput, match=r"cache_key_fn .*broken raised KeyError") as caught:
        (CacheKeyFn(broken) + TASK_SOURCE).compute_key(request())
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(UnhashableInput, match="returned a int; return a string or None"):
        CacheKeyFn(lambda context, arguments: 3).compute_key(request())  # type: ignore[arg-type, return-value]


def test_task_input_hash_is_a_key_function() -> None:
    policy = CacheKeyFn(task_input_hash)
    key = policy.compute_key(request())
    assert key == policy.compute_key(request(flow_run_id="run-2"))
    assert key != policy.compute_key(request(inputs={"x": 2, "y": 2}))
    assert key != policy.compute_key(request(other))


def test_a_policy_of_the_users_adds_up_with_ours() -> None:
    class Weekly(CachePolicy):
        def compute_key(self, request: CacheRequest) -> str | None:
            return "week-7" if request.inputs["x"] else None

    assert Weekly().compute_key(request()) == "week-7"
    assert (Weekly() + INPUTS).components(request())["Weekly"] == "week-7"  # type: ignore[index]
    assert (INPUTS + Weekly()).compute_key(request(inputs={"x": 0})) is None


@pytest.mark.parametrize("policy", [*KEYED.values(), CacheKeyFn(lambda context, arguments: "a key")])
def test_the_key_comes_with_its_components(policy: CachePolicy) -> None:
    assert policy.evaluate(request()) == (policy.compute_key(request()), policy.components(request()))


def test_a_call_without_a_key_has_no_components() -> None:
    assert (INPUTS + RUN_ID).evaluate(request(flow_run_id=None)) == (None, {})


def test_a_policy_of_the_users_makes_its_key_and_components_as_it_says() -> None:
    asked = list[str]()

    class Key(CachePolicy):
        def compute_key(self, request: CacheRequest) -> str | None:
            asked.append("key")
            return "mine"

    class Both(Key):
        def components(self, request: CacheRequest) -> dict[str, str] | None:
            return {"made": "up"}

    assert Key().evaluate(request()) == ("mine", {"Key": "mine"})
    assert asked == ["key"]
    assert Both().evaluate(request()) == ("mine", {"made": "up"})


def test_importing_the_policies_imports_nothing_heavy() -> None:
    program = "import sys, penstock.cache_policies; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert not {"penstock_results", "pydantic", "fsspec", "orjson"} & set(loaded.stdout.split())
