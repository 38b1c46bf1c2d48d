"""From a call of a flow or task to a run: which engine, which runner, which host."""

from __future__ import annotations

import asyncio  # noqa: TID251 (asks which loop runs in this thread)
import threading  # noqa: TID251 (a synchronous flow that is started gets a thread)
from collections.abc import Iterable
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from penstock.context import current_run, current_tags
from penstock.dispatch import Dispatcher
from penstock.engine import Engine, engine_in_use
from penstock.flow_runs import FlowRun
from penstock.futures import Future
from penstock.hosts import asyncio as asyncio_host
from penstock.hosts import callbacks, inline
from penstock.hosts.turnstile import let_in
from penstock.inputs import find_inputs
from penstock.logging import capture_prints, show_logs
from penstock.loops import loop_thread_for
from penstock.ports import Runner, Work
from penstock.records import Run
from penstock.run import execute, value_of
from penstock.runner_scope import RunnerScope
from penstock.signals import post, wait_in_loop
from penstock.task_runs import TaskRun
from penstock.waiting import check_cancelled, refuse_to_block

if TYPE_CHECKING:
    from penstock.flows import Flow
    from penstock.tasks import Task

__all__ = (
    "call_flow",
    "call_task",
    "gathering",
    "make_root_run",
    "run_apart",
    "run_here",
    "start_root_run",
    "submit_task",
)


def make_task_run(
    task: Task[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wait_for: Iterable[Any] | None,
    shared: Work | None = None,
) -> TaskRun:
    """The record of a new task run, its inputs found; nothing has started."""
    parent = current_run.get()
    if shared is None:  # else the map has checked the whole call, of which these are only the mapped arguments
        task.signature.check(args, kwargs)
    run = TaskRun(task, args, kwargs, parent, parent.engine if parent is not None else engine_in_use())
    if parent is not None and run.engine.counts_positions:
        run.position = parent.next_position(task.name)
    tags = current_tags.get()
    if tags or task.tags:
        run.tags = tags | task.tags
    if task.is_async:
        run.is_async = True
    if inputs := find_inputs(args, kwargs):
        run.inputs = inputs
    if wait_for is not None:
        run.inputs = [*run.inputs, *find_inputs((list(wait_for),), {})]
    return run


def call_task(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a task here, in place of the call."""
    return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
    run = make_task_run(task, args, kwargs, wait_for)
    return run_here(run, return_state)


def call_flow(flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a flow here, in place of the call."""
    return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
    run = make_flow_run(flow, args, kwargs, engine_in_use(), wait_for)
    run.return_states = return_state
    return run_here(run, return_state)


def make_flow_run(
    flow: Flow[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    engine: Engine,
    wait_for: Iterable[Any] | None = None,
) -> FlowRun:
    """The record of a new flow run, its runner chosen and not yet opened; nothing has started."""
    show_logs()
    flow.signature.check(args, kwargs)
    parent = current_run.get()
    run = FlowRun(flow, args, kwargs, parent, engine)
    if parent is not None:
        parent.scope.has_inside = True
        if engine.counts_positions:
            run.position = parent.next_position(flow.name)
    run.tags = current_tags.get() | flow.tags
    run.is_async = flow.is_async
    run.inputs = find_inputs(args, kwargs)
    if wait_for is not None:
        run.inputs = [*run.inputs, *find_inputs((list(wait_for),), {})]
    if flow.task_runner is not None:
        _choose_runner(run, flow.task_runner)
    run.home.live.add(run)
    if run.prints_to_log:
        capture_prints()
    return run


def _choose_runner(run: FlowRun, given: Runner) -> None:
    """A flow's own runner is made anew for each run, like the peer's, unless it was handed over open."""
    if given.is_open:
        run.own_runner = given
    else:
        run.own_runner = given.duplicate()
        run.runner_scope = RunnerScope(run.own_runner)


def run_here(run: Run, return_state: bool) -> Any:
    """Run a new run to its end and give its value or state, or something to await or to iterate over that does so."""
    if run.is_async:
        return _run_coroutine_here(run, return_state)
    run.outer_loop = asyncio._get_running_loop()
    for upstream, _ in run.inputs:
        if isinstance(upstream, Future) and not upstream.done:
            refuse_to_block(upstream, run.parent)
    if run.definition.is_generator and not return_state:
        run.streaming = True
        return inline.stream(execute(run, inline.INLINE), partial(value_of, run))
    inline.drive(execute(run, inline.INLINE))
    return run.state if return_state else value_of(run)


def _run_coroutine_here(run: Run, return_state: bool) -> Any:
    """An awaitable for a coroutine's caller; for a synchronous run, the value itself.

    A synchronous run cannot await, so its async tasks and flows run on the engine's loop thread while it waits.
    """
    if waits_for_coroutines(run.parent):
        thread = loop_thread_for(run.parent)
        run.outer_loop = thread.loop
        thread.run(execute(run, asyncio_host.ASYNCIO), copy_context())
        return run.state if return_state else value_of(run)
    if run.definition.is_generator and not return_state:
        run.streaming = True
        return asyncio_host.stream(execute(run, asyncio_host.ASYNCIO), partial(value_of, run))
    if isinstance(run, FlowRun) and run.parent is None and run.engine.on_caller_cancel != "cancel":
        coroutine: Any = run_apart(run, return_state)
    else:
        coroutine = _run_in_task(run, return_state)
    coroutine.__qualname__ = run.definition.name  # for Python's warning that it was never awaited, and for debuggers
    return coroutine


async def _run_in_task(run: Run, return_state: bool) -> Any:
    await execute(run, asyncio_host.ASYNCIO)
    return run.state if return_state else value_of(run)


async def run_apart(run: FlowRun, return_state: bool) -> Any:
    """Run a flow in a task of its own: the caller's cancellation reaches it only if the engine says so."""
    future: Future[Any] = Future(run)
    run.future = future
    future.loop = asyncio.get_running_loop()
    asyncio_host.start(run, future.loop)
    try:
        await wait_in_loop(future)
    except asyncio.CancelledError:
        if run.engine.on_caller_cancel == "cancel":
            run.cancel("cancelled by its caller")
        if run.engine.on_caller_cancel != "detach":
            with asyncio_host.ASYNCIO.cleaning_up():
                await wait_in_loop(future)
        raise
    return run.state if return_state else value_of(run)


def waits_for_coroutines(parent: Run | None) -> bool:
    """Whether the caller is a synchronous run, called where it is, and not a coroutine inside a loop it started."""
    if parent is None or parent.is_async:
        return False
    loop = asyncio._get_running_loop()
    return loop is None or _loop_around(parent) is loop


def _loop_around(run: Run) -> Any:
    while run.outer_loop is None and run.direct and run.parent is not None:
        run = run.parent
    return run.outer_loop


def submit_task(
    task: Task[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wait_for: Iterable[Any] | None = None,
    shared: Work | None = None,
    context: Context | None = None,
) -> Future[Any]:
    """Start a task run elsewhere, and return its handle.

    Args:
        task: The task.
        args: Positional arguments.
        kwargs: Keyword arguments.
        wait_for: What has to end first, besides the futures among the arguments.
        shared: What the calls of the map have in common, where that is more than the task's own `Work`.
        context: A copy of the caller's context, which the runs of one map share; nobody runs anything in it.
    """
    run = make_task_run(task, args, kwargs, wait_for, shared)
    parent = run.parent
    if parent is not None:
        check_cancelled(parent)
        parent.scope.has_inside = True
    future: Future[Any] = Future(run)
    run.future = future
    run.scope = run
    if shared is not None:
        run.shared = shared
    home = run.home
    runner = home.runner
    if runner.ordered:
        _queue_behind_sibling(run)
    home.live.add(run)
    run.context = context or copy_context()
    if task.is_async and not runner.remote:
        _submit_to_loop(run, future)
    else:
        run.runner = runner
        callbacks.start(run, _dispatcher(home))
    return future


def gathering(work: Work) -> AbstractContextManager[None]:
    """The block in which many runs of one work are submitted."""
    run = current_run.get()
    home = (run.flow_run or run.engine) if run is not None else engine_in_use()
    return _dispatcher(home).gathering(work)


def _dispatcher(home: FlowRun | Engine) -> Dispatcher:
    dispatcher = home.dispatcher
    if dispatcher is None:
        engine = home.engine if isinstance(home, FlowRun) else home
        dispatcher = engine.dispatcher_for(home.runner, callbacks.begin, callbacks.begin_without_room, callbacks.report)
        home.dispatcher = dispatcher
    return dispatcher


def _queue_behind_sibling(run: TaskRun) -> None:
    """On a runner that keeps order, a run waits for the one that its parent submitted before it, however that ends."""
    parent = run.parent
    if parent is None:
        return
    tail = parent.tail
    parent.tail = run
    if tail is not None and tail.future is not None and not tail.future.done:
        run.after = tail.future


def _submit_to_loop(run: TaskRun, future: Future[Any]) -> None:
    loop = asyncio._get_running_loop()
    if loop is not None and not waits_for_coroutines(run.parent):
        future.loop = loop
        let_in(run, loop)
    else:
        future.loop = loop_thread_for(run.parent).loop
        post(future.loop, partial(let_in, run, future.loop))


def make_root_run(flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine) -> FlowRun:
    """The record of a new flow run that is nobody's child; nothing has started."""
    return copy_context().run(_without_parent, flow, args, kwargs, engine)


def start_root_run(run: FlowRun) -> Future[Any]:
    """Start a flow run that does not depend on its caller, and return its handle."""
    future: Future[Any] = Future(run)
    run.future = future
    loop = asyncio._get_running_loop()
    if not run.is_async:
        context = copy_context()
        threading.Thread(
            target=context.run,
            args=(inline.drive, execute(run, inline.INLINE)),
            name=f"penstock-{run.name}",
            daemon=True,
        ).start()
    elif loop is not None:
        future.loop = loop
        asyncio_host.start(run, loop)
    else:
        future.loop = loop_thread_for(None).loop
        post(future.loop, cast(Any, partial(copy_context().run, asyncio_host.start, run, future.loop)))
    return future


def _without_parent(flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine) -> FlowRun:
    current_run.set(None)
    return make_flow_run(flow, args, kwargs, engine)
