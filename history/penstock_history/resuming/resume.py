"""Continuing a flow run that was interrupted, in this process or in another one.

To resume is to run the same flow with the same parameters once more, as a new run that knows what the old one has
done. The old one keeps its last state for ever. The new one names it, and the database takes that name once, so that
of two who resume at the same moment one does.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (asks which loop runs in this thread)
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack, closing
from functools import partial
from typing import Any, Literal
from uuid import UUID

from penstock.calls import make_root_run, run_apart, run_here, start_root_run
from penstock.engine import Engine, engine_in_use
from penstock.errors import CodeChanged, ConfigurationError, FlowNotFound, ResumeConflict
from penstock.flow_runs import FlowRun
from penstock.flows import Flow
from penstock.hosts.asyncio import in_thread
from penstock.logging import engine_logger
from penstock.wiring import open_history
from penstock_history.history import History
from penstock_history.records import RunRecord
from penstock_history.resuming.chain import Generation, chain_of, frontier_of, read_generation
from penstock_history.resuming.changes import changed_since, code_or_none
from penstock_history.resuming.entrypoints import load_flow

__all__ = ("OnCodeChange", "resume")

OnCodeChange = Literal["refuse", "continue"]


def resume(run_id: UUID | str, *, history: Any = None, on_code_change: OnCodeChange = "refuse") -> Any:
    """Continue a flow run that crashed, failed or was cancelled.

    The flow runs again with the parameters that it had. Tasks and subflows that had completed and whose value was
    stored (``persist_result=True``) are not executed again; such a run is Cached. What was interrupted goes on:
    attempts count on, a retry comes when it was due, a timeout counts the time that was used.

    Outside of an event loop this blocks and returns the flow's value. Inside one it returns an awaitable that gives it.

    Args:
        run_id: The run. If it was resumed before, the last run that continued it is the one that is continued.
        history: Where it is recorded: a `penstock.history.History`, a URL or a path; by default where this program
            records.
        on_code_change: What to do if the flow's code, or that of its tasks, is no longer what it was: ``"refuse"``, or
            ``"continue"`` with the results of the tasks that are as they were.

    Raises:
        RunNotFound: If the history knows no such run.
        ResumeConflict: If the run is alive, or has completed, or is being resumed by somebody else, or its parameters
            were not recorded.
        FlowNotFound: If its flow is not where it was.
        CodeChanged: If the code has changed and ``on_code_change`` is ``"refuse"``.
        BaseException: What the flow raises.
    """
    if on_code_change not in ("refuse", "continue"):
        raise ConfigurationError(f"resume(on_code_change={on_code_change!r}): give 'refuse' or 'continue'.")
    if asyncio._get_running_loop() is not None:
        return _resume_in_loop(run_id, history, on_code_change)
    chosen, where = _choose(history)
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(history=where)) if chosen is None else chosen
        run = _prepare(run_id, engine, where, on_code_change)
        state = run_here(run, True)
        return (asyncio.run(state) if run.is_async else state).result()


async def _resume_in_loop(run_id: UUID | str, history: Any, on_code_change: OnCodeChange) -> Any:
    """An async flow runs on the loop, a synchronous one on a thread; an engine that is left lets either end in time."""
    chosen, where = _choose(history)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(history=where)) if chosen is None else chosen
        run = await in_thread(partial(_prepare, run_id, engine, where, on_code_change))
        if run.is_async:
            run.outer_loop = asyncio.get_running_loop()
            return await run_apart(run, False)
        future = start_root_run(run)
        try:
            return await future
        except asyncio.CancelledError:
            future.cancel()
            raise


def _choose(history: Any) -> tuple[Engine | None, History]:
    """The history, and the engine in use if that records there; else the run gets an engine of its own."""
    engine = engine_in_use()
    where = engine.history if history is None else open_history(history)
    if where is None:
        raise ConfigurationError(
            "There is no history to resume from: name it, as in resume(run_id, history='history.db'), or in "
            "PENSTOCK_HISTORY."
        )
    is_its_own = engine.history is not None and engine.history.url == where.url
    return (engine if is_its_own else None), where


def _prepare(run_id: UUID | str, engine: Engine, history: History, on_code_change: OnCodeChange) -> FlowRun:
    """Make the run that continues another one; it has not started."""
    history.open(engine).flush(engine.grace)
    history.mark_the_dead()
    record = history.run(run_id)
    with closing(history.database.open_reader()) as reader:
        chain = chain_of(reader, record)
        newest = chain[-1]
        _refuse(record, newest)
        flow = _load(newest)
        generations = [read_generation(reader, each) for each in chain]
        code = code_or_none(flow)
        if code != newest.code:
            _notice_change(flow, newest, generations, on_code_change)
        past = frontier_of(reader, generations, code)
    from penstock_history.resuming.parameters import unpack  # brings the serializers

    parameters = unpack(newest.parameters or "{}", newest.id, flow.keeping.storage or engine.results)
    run = make_root_run(flow, *flow.signature.unbind(parameters), engine)
    run.tags |= frozenset(newest.tags)
    run.continue_from(newest.id, chain[0].id, past)
    engine_logger.info("%s resumes run %s.", run, newest.id)
    return run


def _refuse(asked: RunRecord, newest: RunRecord) -> None:
    """Refuse what cannot be continued."""
    if asked.parent is not None or asked.kind != "flow":
        part = "" if asked.parent is None else f" Resume {asked.root}, of which it is a part."
        raise ResumeConflict(f"Run {asked.id} cannot be resumed by itself: only whole flow runs can.{part}")
    which = f"Run {newest.id}"
    if newest.id != asked.id:
        which = f"Run {asked.id} was resumed before, and its continuation {newest.id}"
    if newest.type == "COMPLETED":
        raise ResumeConflict(f"{which} has completed: nothing is left to do. Call the flow to run it anew.")
    if newest.ended is None:
        raise ResumeConflict(f"{which} is {newest.state}, and its process is alive: cancel it first.")


def _load(newest: RunRecord) -> Flow[..., Any]:
    if newest.parameters is None:
        raise ResumeConflict(f"Run {newest.id} ended before its function was called: call the flow anew.")
    if newest.entrypoint is None:
        raise FlowNotFound(
            f"Run {newest.id} cannot be resumed: its flow {newest.definition!r} is a method bound to an object, which "
            "nobody finds again. Call the flow anew, or make it a function."
        )
    return load_flow(newest.entrypoint)


def _notice_change(
    flow: Flow[..., Any], newest: RunRecord, generations: Iterable[Generation], on_code_change: OnCodeChange
) -> None:
    changed = changed_since(flow, _recorded_codes(generations))
    if on_code_change == "refuse":
        raise CodeChanged(
            f"The code is not what it was when run {newest.id} began: {changed} has changed. Go back to the code that "
            "it was, or resume with on_code_change='continue' (on the command line: --on-code-change continue) to use "
            "the results of the tasks that are as they were."
        )
    engine_logger.warning("Run %s is resumed although %s has changed.", newest.id, changed)


def _recorded_codes(generations: Iterable[Generation]) -> Mapping[str, set[str | None]]:
    codes: defaultdict[str, set[str | None]] = defaultdict(set)
    for generation in generations:
        for path, records in generation.items():
            for record in records:
                if path and record.code is not None:
                    codes[record.definition].add(record.code)
    return codes
