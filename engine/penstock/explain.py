"""Why a call would, or would not, find a stored result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.calls import make_task_run
from penstock.errors import InvalidCall, ResultError, ResultMissing, UnhashableInput
from penstock.keeping import Keeper

if TYPE_CHECKING:
    from penstock.tasks import Task
    from penstock_results.store import ResultInfo, ResultStore

__all__ = ("CacheExplanation", "explain_cache")


@dataclass(frozen=True, slots=True)
class CacheExplanation:
    """What `explain_cache` found out.

    Attributes:
        hit: Whether the call would be answered by a stored result.
        reason: Why, in one sentence.
        key: Where the call's result lies or would lie; None if the call has no key.
        components: What the key is made of: a digest for each of ``inputs.x``, ``code``, ``flow_run``, ...
        compared_with: The key of the task's newest other result, if the call would miss and there is one.
        changed: The components in which the call differs from that one; also those that only one of them has.
    """

    hit: bool
    reason: str
    key: str | None = None
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    compared_with: str | None = None
    changed: tuple[str, ...] = ()


def explain_cache(task: Task[..., Any], *args: Any, **kwargs: Any) -> CacheExplanation:
    """Tell whether a call of a task would be answered from the cache, and if not, what is different this time.

    Nothing runs and nothing is stored. Inside a flow the answer is that of a call made there. To find the newest
    result it reads the head of every result in the store.

    Args:
        task: The task.
        args: The call's positional arguments: values, no futures.
        kwargs: The call's keyword arguments.

    Raises:
        ParameterBindError: If the arguments do not fit the function's signature.
        InvalidCall: If there are futures among them.
        ResultError: If the store cannot be reached.
    """
    run = make_task_run(task, args, kwargs, None)
    if run.inputs:
        raise InvalidCall(f"explain_cache({task}, ...) got futures or states: give the values that they stand for.")
    if not run.keeps:
        return CacheExplanation(False, "The task stores no results: give it a cache_policy or persist_result=True.")
    keeper = Keeper(run)
    try:
        key = keeper.make_key()
    except UnhashableInput as error:
        return CacheExplanation(False, f"The call has no key: {error}")
    if key is None:
        return CacheExplanation(False, "The call has no key: its cache policy gives none here.")
    return _look(keeper.store, key, keeper.components, task)


def _look(store: ResultStore, key: str, components: Mapping[str, str], task: Task[..., Any]) -> CacheExplanation:
    try:
        store.info(key)
    except ResultMissing:
        reason = "Nothing is stored under the call's key, or it has expired."
    except ResultError as error:
        if isinstance(error.__cause__, OSError):
            raise
        reason = f"What is stored under the call's key cannot be used: {error}"
    else:
        if not task.keeping.refresh:
            return CacheExplanation(True, "A result is stored under the call's key.", key, components)
        return CacheExplanation(False, "A result is stored, and refresh_cache makes it anew.", key, components)
    last = _newest(store, key, components, task)
    if last is None:
        return CacheExplanation(False, reason, key, components)
    theirs: Mapping[str, str] = last.provenance["components"]
    names = sorted(components.keys() | theirs.keys())
    changed = tuple(name for name in names if components.get(name) != theirs.get(name))
    return CacheExplanation(False, reason, key, components, last.key, changed)


def _newest(store: ResultStore, key: str, components: Mapping[str, str], task: Task[..., Any]) -> ResultInfo | None:
    """The newest result of the same task under another key, whether or not it has expired."""
    newest: ResultInfo | None = None
    for other in store.keys():  # noqa: SIM118 (a store is no dictionary)
        if other == key:
            continue
        try:
            info = store.inspect(other)
        except ResultError:  # deleted meanwhile, or damaged: nothing to compare with
            continue
        if _is_of(info.provenance, components, task) and (newest is None or info.created > newest.created):
            newest = info
    return newest


def _is_of(provenance: Mapping[str, Any], components: Mapping[str, str], task: Task[..., Any]) -> bool:
    """Whether a result was made by the task: by the place of its function where the key says that, else by its name."""
    theirs = provenance.get("components")
    if not theirs:
        return False
    mine = components.get("task")
    return bool(provenance.get("definition") == task.name and theirs.get("task", mine) == mine)
