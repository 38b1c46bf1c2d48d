"""`task`, the decorator, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from penstock.cache_policies import CachePolicy, task_input_hash
from penstock.calls import call_task, submit_task
from penstock.definitions import KEEP, Definition, Hook, Keep
from penstock.futures import Future, FutureList
from penstock.mapping import MapIterator, checked_batch_size, map_task
from penstock.policies import RetryDelay, exponential_backoff
from penstock.ports import Work
from penstock.schedule import BatchSize
from penstock.states import State

__all__ = ("AsyncTask", "Task", "exponential_backoff", "task", "task_input_hash")

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
Q = ParamSpec("Q")
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class _Takes1(Protocol[A_contra, R_co]):
    """A task whose function can be called with one positional argument."""

    @property
    def fn(self) -> Callable[[A_contra], R_co]: ...


class _Takes2(Protocol[A_contra, B_contra, R_co]):
    """A task whose function can be called with two positional arguments."""

    @property
    def fn(self) -> Callable[[A_contra, B_contra], R_co]: ...


class _Takes3(Protocol[A_contra, B_contra, C_contra, R_co]):
    """A task whose function can be called with three positional arguments."""

    @property
    def fn(self) -> Callable[[A_contra, B_contra, C_contra], R_co]: ...


class Task(Definition[P, R], Generic[P, R]):
    """A function that runs as a task: made by `task`.

    Call it to run it here, `submit` it to run it on the flow's runner, `map` it over many arguments. ``fn`` is the
    function itself.
    """

    kind = "task"

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(self: Task[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Task[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        Definition.__init__(self, fn, options)
        self._set_up(options)

    def _set_up(self, options: Mapping[str, Any]) -> None:
        self.runner_options: Mapping[str, Any] = options.get("runner_options") or {}
        self.crash_retries: int = options.get("crash_retries") or 0
        self.batch_size: BatchSize | None = checked_batch_size(options.get("batch_size"), self)

    @cached_property
    def work(self) -> Work:
        """What all calls of this task have in common."""
        return Work(
            function=self.fn,
            name=self.name,
            timeout=self.timeout_seconds,
            log_prints=self.log_prints,
            is_async=self.is_async,
            is_generator=self.is_generator,
            options=self.runner_options,
            batch_size=self.batch_size,
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here, like any function, and return its value.

        Futures among the arguments are replaced by their values. Two keywords are the engine's own:
        ``return_state=True`` gives the final `State` and raises nothing, ``wait_for=[...]`` lets futures end first.

        Raises:
            UpstreamFailed: If a run that the arguments depend on did not complete.
            BaseException: What the function raised, when the retries are used up.
        """
        return cast(R, call_task(self, args, cast("dict[str, Any]", kwargs)))

    # Arguments may be futures of the declared types. No type expresses that for all signatures at once, so the first
    # three positional parameters are spelled out, and the last overload takes plain values for any signature.
    @overload
    def submit(self: _Takes1[A, R], a: A | Future[A], /, *, wait_for: Iterable[Any] | None = None) -> Future[R]: ...
    @overload
    def submit(
        self: _Takes2[A, B, R], a: A | Future[A], b: B | Future[B], /, *, wait_for: Iterable[Any] | None = None
    ) -> Future[R]: ...
    @overload
    def submit(
        self: _Takes3[A, B, C, R],
        a: A | Future[A],
        b: B | Future[B],
        c: C | Future[C],
        /,
        *,
        wait_for: Iterable[Any] | None = None,
    ) -> Future[R]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Start the task on the flow's runner and return a handle at once.

        The task starts when the futures among its arguments, and those in ``wait_for=[...]``, have ended; until then
        it occupies nothing. ``return_state=True`` waits and gives the final `State`.

        Raises:
            ParameterBindError: If the arguments do not fit the function's signature.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        future = submit_task(self, args, kwargs, wait_for)
        return _state_of(future) if return_state else future

    @overload
    def map(
        self: _Takes1[A, R], a: Iterable[A] | Iterable[Future[A]] | A, /, *, wait_for: Iterable[Any] | None = None
    ) -> FutureList[R]: ...
    @overload
    def map(
        self: _Takes2[A, B, R],
        a: Iterable[A] | Iterable[Future[A]] | A,
        b: Iterable[B] | Iterable[Future[B]] | B,
        /,
        *,
        wait_for: Iterable[Any] | None = None,
    ) -> FutureList[R]: ...
    @overload
    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]: ...
    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Submit the task once for each item of its iterable arguments.

        Arguments that are no iterables, strings, and whatever is wrapped in `unmapped` go to every run as a whole.
        On a runner with workers of its own several runs travel together; ``batch_size=n`` fixes how many, 1 turns
        that off. Each run keeps its own state, retries, logs and result.

        Raises:
            MappingMissingIterable: If there is nothing to map over.
            MappingLengthMismatch: If the iterables differ in length.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        batch_size = None if "batch_size" in self.signature.names else kwargs.pop("batch_size", None)
        futures = map_task(self, args, kwargs, wait_for, batch_size)
        return [_state_of(future) for future in futures] if return_state else futures

    def map_iter(self, *args: Any, window: int = 256, ordered: bool = True, **kwargs: Any) -> MapIterator[R]:
        """Map over iterables of any length, holding only a window of them.

        Iterate over what comes back with ``for`` or ``async for``; it gives values, and raises what a run failed
        with when its turn comes. The inputs are advanced at most ``window`` items ahead of what was consumed.

        Args:
            args: As for `map`; iterators are consumed as the window moves.
            window: How many runs are under way, or done and not consumed, at most.
            ordered: Whether values come in the order of the items, or as they are ready.
            kwargs: As for `map`.
        """
        return MapIterator(self, args, kwargs, window, ordered)

    def with_options(
        self,
        *,
        name: str | Keep | None = KEEP,
        description: str | Keep | None = KEEP,
        tags: Iterable[str] | Keep | None = KEEP,
        task_run_name: str | Callable[..., str] | Keep | None = KEEP,
        retries: int | Keep | None = KEEP,
        retry_delay_seconds: RetryDelay | Keep | None = KEEP,
        retry_jitter_factor: float | Keep | None = KEEP,
        retry_condition_fn: Callable[..., Any] | Keep | None = KEEP,
        timeout_seconds: float | Keep | None = KEEP,
        log_prints: bool | Keep | None = KEEP,
        on_running: Iterable[Hook] | Keep | None = KEEP,
        on_completion: Iterable[Hook] | Keep | None = KEEP,
        on_failure: Iterable[Hook] | Keep | None = KEEP,
        on_cancellation: Iterable[Hook] | Keep | None = KEEP,
        on_crashed: Iterable[Hook] | Keep | None = KEEP,
        cache_policy: CachePolicy | Keep | None = KEEP,
        cache_key_fn: Callable[..., str | None] | Keep | None = KEEP,
        cache_expiration: timedelta | Keep | None = KEEP,
        refresh_cache: bool | Keep | None = KEEP,
        persist_result: bool | Keep | None = KEEP,
        result_storage: Any = KEEP,
        result_serializer: str | Keep | None = KEEP,
        cache_result_in_memory: bool | Keep | None = KEEP,
        result_storage_key: str | Keep | None = KEEP,
        crash_retries: int | Keep | None = KEEP,
        batch_size: BatchSize | Keep | None = KEEP,
        runner_options: Mapping[str, Any] | Keep | None = KEEP,
    ) -> Task[P, R]:
        """A copy of the task with some options changed; None, or an empty list, clears one."""
        changes = {key: value for key, value in locals().items() if key not in ("self", "task_run_name")}
        return self.changed({**changes, "run_name": task_run_name})


class AsyncTask(Task[P, R], Generic[P, R]):
    """A task whose function is ``async def``: calling it gives a coroutine. Made by `task`."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: AsyncTask[Concatenate[Any, Q], R], instance: object, owner: type | None = None
        ) -> AsyncTask[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Run the task on the caller's loop when awaited.

        In a synchronous flow or task, which cannot await, the call itself runs it and returns its value.
        """
        return cast("Coroutine[Any, Any, R]", call_task(self, args, cast("dict[str, Any]", kwargs)))


def _state_of(future: Future[Any]) -> State:
    future.wait()
    return future.state


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    task_run_name: str | Callable[..., str] | None = None,
    retries: int | None = None,
    retry_delay_seconds: RetryDelay | None = None,
    retry_jitter_factor: float | None = None,
    retry_condition_fn: Callable[..., Any] | None = None,
    timeout_seconds: float | None = None,
    log_prints: bool | None = None,
    on_running: Iterable[Hook] | None = None,
    on_completion: Iterable[Hook] | None = None,
    on_failure: Iterable[Hook] | None = None,
    on_cancellation: Iterable[Hook] | None = None,
    on_crashed: Iterable[Hook] | None = None,
    cache_policy: CachePolicy | None = None,
    cache_key_fn: Callable[..., str | None] | None = None,
    cache_expiration: timedelta | None = None,
    refresh_cache: bool | None = None,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: str | None = None,
    cache_result_in_memory: bool | None = None,
    result_storage_key: str | None = None,
    crash_retries: int | None = None,
    batch_size: BatchSize | None = None,
    runner_options: Mapping[str, Any] | None = None,
) -> _Decorator: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a task of a function: ``@task`` or ``@task(retries=3, ...)``.

    Args:
        fn: A function: plain, async, or a generator of either kind; a method works too.
        options: See the overload. ``retry_delay_seconds`` is a number, one per retry, or a function such as
            `exponential_backoff`; ``retry_jitter_factor=f`` stretches each delay by up to ``1 + f``;
            ``retry_condition_fn(task, run, state)`` decides whether a failure is worth another attempt; hooks are
            called as ``hook(task, run, state)``; ``cache_policy`` or ``cache_key_fn`` say when a stored result may be
            taken
            for a new one, ``cache_expiration`` for how long; ``persist_result`` stores the result without that;
            ``crash_retries`` is how often an attempt whose worker died may be
            repeated, at the risk that its side effects happen twice; ``batch_size`` see `Task.map`; ``task_run_name``
            is a template over the parameters, or a function.

    Raises:
        ConfigurationError: If an option cannot work.
        ReservedArgumentError: If a parameter is called ``return_state`` or ``wait_for``.
    """
    if "task_run_name" in options:
        options["run_name"] = options.pop("task_run_name")
    if fn is None:
        return partial(_make, options=options)
    return _make(fn, options)


def _make(fn: Callable[..., Any], options: Mapping[str, Any]) -> Task[..., Any]:
    plain = Task(fn, **options)
    return AsyncTask(fn, **options) if plain.is_async and not plain.is_generator else plain


class _Decorator:
    """The type of ``task(...)`` with options, so that it keeps the function's types."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Any:
        raise NotImplementedError
