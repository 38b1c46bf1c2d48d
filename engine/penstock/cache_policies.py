"""What the cache key of a task run is made of.

::

    @task(cache_policy=INPUTS + TASK_SOURCE)     the same inputs and the same code
    @task(cache_policy=DEFAULT - "client")       the same inputs except `client`, code, and flow run
    @task(cache_policy=CacheKeyFn(my_function))  whatever `my_function(context, arguments)` returns
    @task(cache_policy=NO_CACHE)                 never

A policy is a plain value: it computes a key from a `CacheRequest` and does nothing else. Policies add up; the key of a
sum holds when every part of it holds, and if one part has no key then the sum has none. It never falls back to
fewer parts, because a weaker key would return the result of other inputs.

Every key but that of a key function names the task, so two tasks with equal inputs do not share results.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias, cast

from penstock.errors import ConfigurationError, InvalidCall, SerializationError, UnhashableInput

__all__ = (
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NONE",
    "NO_CACHE",
    "RUN_ID",
    "TASK_SOURCE",
    "CacheContext",
    "CacheKeyFn",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "CacheRequest",
    "CompoundCachePolicy",
    "FlowParameters",
    "Inputs",
    "NoCache",
    "RunId",
    "TaskSource",
    "task_input_hash",
)

_STORE_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """What a policy may look at.

    Attributes:
        task: The task, with its ``fn`` and ``name``.
        inputs: The arguments of this call by parameter name, with defaults, and values in place of futures.
        flow_parameters: The parameters of the flow run that the task runs in, or None outside of one.
        flow_run_id: The id of that flow run, or None.
        task_run: The task run, for key functions that look at it.
    """

    task: Any
    inputs: Mapping[str, Any]
    flow_parameters: Mapping[str, Any] | None = None
    flow_run_id: str | None = None
    task_run: Any = None


@dataclass(frozen=True, slots=True)
class CacheContext:
    """What a ``cache_key_fn`` gets as its first argument."""

    task: Any
    task_run: Any
    parameters: Mapping[str, Any]


KeyFunction: TypeAlias = Callable[[Any, dict[str, Any]], str | None]


@dataclass(frozen=True)
class CachePolicy:
    """A rule for cache keys. Derive from it and override `compute_key` to write one.

    Attributes:
        key_storage: Where results under this policy's keys lie, if the task does not say: a store, a URL or a path.
        isolation_level: Taken for the sake of scripts that set it. Concurrent callers of a key always run once.
        lock_manager: Taken likewise.
    """

    key_storage: Any = field(default=None, kw_only=True)
    isolation_level: Any = field(default=None, kw_only=True)
    lock_manager: Any = field(default=None, kw_only=True)

    @property
    def is_none(self) -> bool:
        """Whether no call can have a key, so that nothing needs to be hashed or looked up."""
        return False

    def compute_key(self, request: CacheRequest) -> str | None:
        """Compute the key of a call.

        Args:
            request: The call.

        Returns:
            A key, or None if this call is not to be cached, because its policy asks for a flow run and there is none.

        Raises:
            UnhashableInput: If a value has no canonical form; the message names the argument.
        """
        components = self.components(request)
        return None if components is None else self._key_of(components)

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """What the key is made of, by name: ``inputs.x``, ``code``, ``flow_run``, ...

        Args:
            request: The call.

        Returns:
            A digest for each component, or None if the call has no key.

        Raises:
            UnhashableInput: As `compute_key`.
        """
        if type(self).compute_key is CachePolicy.compute_key:
            raise NotImplementedError(f"{type(self).__name__} must override compute_key or components")
        key = self.compute_key(request)
        return None if key is None else {type(self).__name__: key}

    def evaluate(self, request: CacheRequest) -> tuple[str | None, dict[str, str]]:
        """Compute a call's key together with its components, so that a large argument is hashed once.

        Args:
            request: The call.

        Returns:
            What `compute_key` gives, and what `components` gives; None and nothing if the call has no key.

        Raises:
            UnhashableInput: As `compute_key`.
        """
        components = self.components(request)
        if not components:
            return None, {}
        if type(self).compute_key is CachePolicy.compute_key:
            return self._key_of(components), components
        if type(self).components is CachePolicy.components:
            return components[type(self).__name__], components
        return self.compute_key(request), components

    def _key_of(self, components: dict[str, str]) -> str:
        from penstock_results.keys import make_key

        return make_key(components)

    def configure(self, *, key_storage: Any = None, isolation_level: Any = None, lock_manager: Any = None) -> Self:
        """Make a copy with other settings; those that are not given stay."""
        changed = copy.copy(self)
        given = {"key_storage": key_storage, "isolation_level": isolation_level, "lock_manager": lock_manager}
        for name, value in given.items():
            if value is not None:
                object.__setattr__(changed, name, value)
        return changed

    @classmethod
    def from_cache_key_fn(cls, cache_key_fn: KeyFunction) -> CacheKeyFnPolicy:
        """Make the policy of a key function."""
        return CacheKeyFnPolicy(cache_key_fn)

    def __bool__(self) -> bool:
        return not self.is_none

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if other.is_none:
            return self
        if self.is_none:
            return other
        return CompoundCachePolicy((*_parts(self), *_parts(other)), **_settings(self, other))

    def __sub__(self, excluded: str) -> CachePolicy:
        return self + Inputs((_parameter(excluded),))


@dataclass(frozen=True)
class NoCache(CachePolicy):
    """Never a key."""

    @property
    def is_none(self) -> bool:
        """Always."""
        return True

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """None."""
        return None

    def __sub__(self, excluded: str) -> CachePolicy:
        return self


@dataclass(frozen=True)
class Inputs(CachePolicy):
    """The same task with the same arguments.

    Attributes:
        exclude: Parameters that do not count.
    """

    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", tuple(sorted(self.exclude)))

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """A digest per argument."""
        from penstock_results.keys import hash_value

        counted = sorted(request.inputs.keys() - set(self.exclude))
        hashes = {f"inputs.{name}": hash_value(request.inputs[name], name=f"argument {name}") for name in counted}
        return _task_identity(request) | hashes

    def __sub__(self, excluded: str) -> CachePolicy:
        return replace(self, exclude=(*self.exclude, _parameter(excluded)))


@dataclass(frozen=True)
class TaskSource(CachePolicy):
    """The same code: the function's own, and that of the functions, cells, defaults and globals it refers to."""

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """One digest."""
        from penstock_results.keys import code_identity

        return _task_identity(request) | {"code": code_identity(request.task.fn)}


@dataclass(frozen=True)
class FlowParameters(CachePolicy):
    """The same parameters of the flow that the task runs in; outside of a flow there is no key."""

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """A digest per parameter."""
        from penstock_results.keys import hash_value

        if request.flow_parameters is None:
            return None
        try:
            parameters = sorted(request.flow_parameters.items())
        except SerializationError as error:  # on a worker, of a parameter that stayed on the driver
            raise UnhashableInput(f"{error} The call is not cached.") from error
        hashes = {
            f"flow_parameters.{name}": hash_value(value, name=f"flow parameter {name}") for name, value in parameters
        }
        return _task_identity(request) | hashes


@dataclass(frozen=True)
class RunId(CachePolicy):
    """The same flow run, also after it was resumed; outside of a flow run there is no key."""

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """The flow run's id."""
        if request.flow_run_id is None:
            return None
        return _task_identity(request) | {"flow_run": request.flow_run_id}


@dataclass(frozen=True)
class CacheKeyFnPolicy(CachePolicy):
    """The key that a function of the user's computes; as everywhere, None means that the call is not cached.

    Attributes:
        cache_key_fn: Called with a `CacheContext` and the arguments by name.
    """

    cache_key_fn: KeyFunction

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """The function's string."""
        key = self._call(request)
        return None if key is None else {"cache_key_fn": key}

    def _key_of(self, components: dict[str, str]) -> str:
        """The function's own string where a store can take it as a key, and otherwise its hash."""
        from penstock_results.keys import make_key

        key = components["cache_key_fn"]
        return key if _STORE_KEY.fullmatch(key) else make_key(key)

    def _call(self, request: CacheRequest) -> str | None:
        context = CacheContext(request.task, request.task_run, request.inputs)
        name = getattr(self.cache_key_fn, "__qualname__", repr(self.cache_key_fn))
        try:
            key: Any = cast("Any", self.cache_key_fn)(context, dict(request.inputs))
        except UnhashableInput:
            raise
        except Exception as error:
            raise UnhashableInput(f"the cache_key_fn {name} raised {error!r}; the call is not cached") from error
        if key is None or isinstance(key, str):
            return key
        raise UnhashableInput(f"the cache_key_fn {name} returned a {type(key).__name__}; return a string or None")


@dataclass(frozen=True)
class CompoundCachePolicy(CachePolicy):
    """Several policies that must all agree; what ``+`` makes.

    Attributes:
        policies: The parts, none of them compound.
    """

    policies: tuple[CachePolicy, ...]

    def components(self, request: CacheRequest) -> dict[str, str] | None:
        """The components of all parts; nothing large is hashed if a cheaper part has no key."""
        found = dict[str, str]()
        for policy in sorted(self.policies, key=_cost):
            part = policy.components(request)
            if part is None:
                return None
            found |= part
        return found

    def __sub__(self, excluded: str) -> CachePolicy:
        if not any(isinstance(policy, Inputs) for policy in self.policies):
            return super().__sub__(excluded)
        parts = tuple(policy - excluded if isinstance(policy, Inputs) else policy for policy in self.policies)
        return replace(self, policies=parts)


def task_input_hash(context: Any, arguments: dict[str, Any]) -> str | None:
    """A ``cache_key_fn``: the same task, code and arguments.

    Args:
        context: What key functions get; its ``task`` counts.
        arguments: The call's arguments by name.

    Raises:
        UnhashableInput: If an argument has no canonical form.
    """
    return (INPUTS + TASK_SOURCE).compute_key(CacheRequest(context.task, arguments))


def _cost(policy: CachePolicy) -> int:
    return 0 if isinstance(policy, RunId | CacheKeyFnPolicy) else 1 if isinstance(policy, FlowParameters) else 2


def _parts(policy: CachePolicy) -> tuple[CachePolicy, ...]:
    return policy.policies if isinstance(policy, CompoundCachePolicy) else (policy,)


def _settings(first: CachePolicy, second: CachePolicy) -> dict[str, Any]:
    """The settings of a sum: whatever either part says, if they do not contradict each other."""
    settings = dict[str, Any]()
    for name in ("key_storage", "isolation_level", "lock_manager"):
        one, other = getattr(first, name), getattr(second, name)
        if one is not None and other is not None and one != other:
            raise ConfigurationError(
                f"cannot add cache policies whose {name} differ ({one!r} and {other!r}): "
                f"add first, then .configure({name}=...) the sum"
            )
        settings[name] = other if one is None else one
    return settings


def _parameter(excluded: object) -> str:
    if not isinstance(excluded, str):
        raise InvalidCall(f"cache_policy - {excluded!r}: subtract the name of a parameter, as a string")
    return excluded


def _task_identity(request: CacheRequest) -> dict[str, str]:
    """Which task it is: where its function stands and what it is called. Lambdas share a name, so their code counts."""
    from penstock_results.keys import code_identity

    function = request.task.fn
    module = "__main__" if function.__module__ == "__mp_main__" else function.__module__
    place = f"{module}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    identity = {"task": f"{place} as {request.task.name}"}
    return identity | {"lambda": code_identity(function)} if "<lambda>" in place else identity


INPUTS = Inputs()
TASK_SOURCE = TaskSource()
FLOW_PARAMETERS = FlowParameters()
RUN_ID = RunId()
NO_CACHE = NONE = NoCache()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID
CacheKeyFn = CacheKeyFnPolicy
