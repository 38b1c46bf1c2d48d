"""What the user wants asked and called beside the work itself: hooks, and whether to try again."""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import Any, cast

from penstock.errors import Cancelled
from penstock.logging import run_logger
from penstock.ports import Host
from penstock.records import Run
from penstock.states import State

__all__ = ("call_hooks", "condition_allows")


async def call_hooks(run: Run, host: Host) -> None:
    """Call what the user wants called in this state; a hook that fails is logged and changes nothing."""
    state = cast(State, run.state)
    for hook in run.definition.hooks.get(state.type, ()):
        try:
            answer = await host.call(run, partial(run.call_in_context, partial(hook, run.definition, run, state)))
            if isawaitable(answer):
                await host.join(run, cast(Any, answer))
        except (Exception, Cancelled) as error:
            if isinstance(error, Cancelled) and not run.is_final:
                raise  # the run was cancelled, not the hook
            name = getattr(hook, "__name__", repr(hook))
            run_logger(run).exception("Hook %r failed; the run is not affected.", name)


async def condition_allows(run: Run, host: Host, outcome: State) -> bool:
    """Ask the task's ``retry_condition_fn``; one that fails is logged and means no."""
    condition = run.definition.retry_condition_fn
    if condition is None:
        return True
    try:
        answer = await host.call(run, partial(condition, run.definition, run, outcome))
        return bool(await host.join(run, cast(Any, answer)) if isawaitable(answer) else answer)
    except Exception:
        run_logger(run).exception("retry_condition_fn failed, so there is no retry.")
        return False
