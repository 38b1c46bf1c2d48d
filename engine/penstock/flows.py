"""`flow`, the decorator, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, cast, overload

from penstock.calls import call_flow
from penstock.definitions import KEEP, Definition, Hook, Keep
from penstock.errors import ConfigurationError
from penstock.flow_runs import FlowRun
from penstock.policies import RetryDelay
from penstock.ports import Runner
from penstock.wiring import as_runner

__all__ = ("AsyncFlow", "Flow", "OnUnfinished", "flow")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
OnUnfinished = Literal["wait", "cancel", "detach"]


class Flow(Definition[P, R], Generic[P, R]):
    """A function that runs as a flow: made by `flow`.

    Attributes:
        task_runner: Where tasks that are submitted inside the flow execute; None for the engine's runner.
        should_validate_parameters: Whether arguments are checked against the annotations.
        on_unfinished: What becomes of submitted runs that have not ended when the function returns.
    """

    kind = "flow"

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(self: Flow[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Flow[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        Definition.__init__(self, fn, options)
        self._set_up(options)

    def _set_up(self, options: Mapping[str, Any]) -> None:
        runner = options.get("task_runner")
        self.task_runner: Runner | None = as_runner(runner, f"{self}: task_runner={runner!r}")
        validate = options.get("validate_parameters")
        self.should_validate_parameters = True if validate is None else validate
        self.on_unfinished: OnUnfinished = options.get("on_unfinished") or "wait"
        if self.on_unfinished not in ("wait", "cancel", "detach"):
            raise ConfigurationError(
                f"{self}: on_unfinished={self.on_unfinished!r}; give 'wait', 'cancel' or 'detach'."
            )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow here and return its value.

        A flow that returns futures gives their values. Two keywords are the engine's own: ``return_state=True``
        gives the final `State` and raises nothing, ``wait_for=[...]`` lets futures end first.

        Raises:
            ParameterBindError: If the arguments do not fit the signature; no run exists then.
            ParameterTypeError: If an argument does not fit its annotation.
            UnhandledFailures: If a submitted run failed and nobody looked at it; the failure is the ``__cause__``.
            BaseException: What the function raised, when the retries are used up.
        """
        return cast(R, call_flow(self, args, cast("dict[str, Any]", kwargs)))

    def validate_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Check arguments by name against the annotations and convert them.

        Raises:
            ParameterTypeError: If one does not fit; names the parameter.
        """
        return self.signature.validate(parameters)

    def validate(self, run: FlowRun) -> None:
        """Bind a run's arguments, and validate them unless the flow was told not to."""
        run.parameters = self.signature.bind(run.args, run.kwargs)
        if self.should_validate_parameters:
            run.parameters = self.signature.validate(run.parameters)
            run.args, run.kwargs = self.signature.unbind(run.parameters)

    def with_options(
        self,
        *,
        name: str | Keep | None = KEEP,
        description: str | Keep | None = KEEP,
        version: str | Keep | None = KEEP,
        tags: Iterable[str] | Keep | None = KEEP,
        flow_run_name: str | Callable[..., str] | Keep | None = KEEP,
        retries: int | Keep | None = KEEP,
        retry_delay_seconds: RetryDelay | Keep | None = KEEP,
        retry_jitter_factor: float | Keep | None = KEEP,
        retry_condition_fn: Callable[..., Any] | Keep | None = KEEP,
        timeout_seconds: float | Keep | None = KEEP,
        task_runner: Runner | type[Runner] | Keep | None = KEEP,
        validate_parameters: bool | Keep | None = KEEP,
        log_prints: bool | Keep | None = KEEP,
        persist_result: bool | Keep | None = KEEP,
        result_storage: Any = KEEP,
        result_serializer: str | Keep | None = KEEP,
        cache_result_in_memory: bool | Keep | None = KEEP,
        on_unfinished: OnUnfinished | Keep | None = KEEP,
        on_running: Iterable[Hook] | Keep | None = KEEP,
        on_completion: Iterable[Hook] | Keep | None = KEEP,
        on_failure: Iterable[Hook] | Keep | None = KEEP,
        on_cancellation: Iterable[Hook] | Keep | None = KEEP,
        on_crashed: Iterable[Hook] | Keep | None = KEEP,
    ) -> Flow[P, R]:
        """A copy of the flow with some options changed; None, or an empty list, clears one."""
        changes = {key: value for key, value in locals().items() if key not in ("self", "flow_run_name")}
        return self.changed({**changes, "run_name": flow_run_name})


class AsyncFlow(Flow[P, R], Generic[P, R]):
    """A flow whose function is ``async def``: calling it gives a coroutine. Made by `flow`."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: AsyncFlow[Concatenate[Any, Q], R], instance: object, owner: type | None = None
        ) -> AsyncFlow[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Run the flow on the caller's loop when awaited.

        In a synchronous flow or task, which cannot await, the call itself runs it and returns its value.
        """
        return cast("Coroutine[Any, Any, R]", call_flow(self, args, cast("dict[str, Any]", kwargs)))


@overload
def flow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFlow[P, R]: ...
@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    tags: Iterable[str] | None = None,
    flow_run_name: str | Callable[..., str] | None = None,
    retries: int | None = None,
    retry_delay_seconds: RetryDelay | None = None,
    retry_jitter_factor: float | None = None,
    retry_condition_fn: Callable[..., Any] | None = None,
    timeout_seconds: float | None = None,
    task_runner: Runner | type[Runner] | None = None,
    validate_parameters: bool = True,
    log_prints: bool | None = None,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: str | None = None,
    cache_result_in_memory: bool | None = None,
    on_unfinished: OnUnfinished = "wait",
    on_running: Iterable[Hook] | None = None,
    on_completion: Iterable[Hook] | None = None,
    on_failure: Iterable[Hook] | None = None,
    on_cancellation: Iterable[Hook] | None = None,
    on_crashed: Iterable[Hook] | None = None,
) -> _Decorator: ...
def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a flow of a function: ``@flow`` or ``@flow(retries=1, ...)``.

    Args:
        fn: A function: plain, async, or a generator of either kind; a method works too.
        options: See the overload. ``task_runner`` is a runner or its class, made anew for every run;
            ``on_unfinished`` says what becomes of submitted runs that have not ended when the function returns;
            ``persist_result``, ``result_storage`` and ``result_serializer`` hold for the tasks inside, too, where they
            do not say otherwise; ``flow_run_name`` is a template over the parameters, or a
            function; the others are those of `task`.

    Raises:
        ConfigurationError: If an option cannot work.
        ReservedArgumentError: If a parameter is called ``return_state`` or ``wait_for``.
    """
    if "flow_run_name" in options:
        options["run_name"] = options.pop("flow_run_name")
    if fn is None:
        return partial(_make, options=options)
    return _make(fn, options)


def _make(fn: Callable[..., Any], options: Mapping[str, Any]) -> Flow[..., Any]:
    plain = Flow(fn, **options)
    return AsyncFlow(fn, **options) if plain.is_async and not plain.is_generator else plain


class _Decorator:
    """The type of ``flow(...)`` with options, so that it keeps the function's types."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFlow[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Flow[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Any:
        raise NotImplementedError
