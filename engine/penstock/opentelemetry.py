"""Spans and metrics of runs, through OpenTelemetry's API.

``Engine(sinks=[OpenTelemetry()])`` turns it on; otherwise this module is not imported and a run pays one look at an
attribute. Only the API is used: which SDK, exporter and sampler there are is the application's decision, and without
any of them everything here does nothing.

A run is one span, from its first state to its last. Its parent is whatever span was current where the run was called
or submitted: that of the flow around, one that the user's code opened there, or a web request's. The span is current
while the run's function executes, so that what the function traces lies below it. To a worker in another process goes
the place of the span, as its propagator's headers; runs inside the call are traced there, by that process's provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from penstock import __version__
from penstock.errors import MissingExtra
from penstock.ports import Event
from penstock.states import State, StateType
from penstock.visited import VisitedRun

try:
    from opentelemetry import context, metrics, propagate, trace
except ModuleNotFoundError as _error:
    raise MissingExtra("penstock.opentelemetry", "opentelemetry") from _error

__all__ = ("OpenTelemetry",)

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600)
"""Bounds of the histogram of durations: the SDK's own are made for milliseconds."""

_ERRORS = (StateType.FAILED, StateType.CRASHED)


class OpenTelemetry:
    """An event sink that makes spans and metrics of what it sees.

    Args:
        tracer_provider: Where spans go; by default the global provider.
        meter_provider: Where metrics go, likewise.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("penstock", __version__, tracer_provider)
        meter = metrics.get_meter("penstock", __version__, meter_provider)
        self._active = meter.create_up_down_counter(
            "penstock.run.active", "{run}", "Runs that have begun and not ended, by the type of their state."
        )
        self._duration = meter.create_histogram(
            "penstock.run.duration",
            "s",
            "How long runs lasted from their first state to their last.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )

    def trace(self, event: Event) -> None:
        """Begin, mark or end the run's span; see `penstock.ports.Tracer`."""
        run, state = event.run, event.state
        if run.trace is None:
            run.trace = self._begin(run, state)
        elif state.is_final():
            _end(run, state)
        else:
            _mark(run, state)

    def _begin(self, run: Any, state: State) -> _SpanTrace:
        # A submitted run begins on any thread; its context is that of whoever submitted it.
        around = context.get_current() if run.context is None else run.context.copy().run(context.get_current)
        definition, kind = run.definition, run.kind.lower()
        attributes: dict[str, Any] = {
            f"penstock.{kind}.name": definition.name,
            "penstock.run.id": str(run.id),
            "code.function.name": _qualified(definition.fn),
        }
        if run.tags:
            attributes["penstock.run.tags"] = sorted(run.tags)
        span = self._tracer.start_span(
            f"{kind} {definition.name}", around, attributes=attributes, start_time=_nanoseconds(state)
        )
        return _SpanTrace(trace.set_span_in_context(span, around), self)

    def emit(self, event: Event) -> None:
        """Count the run in its new state; see `penstock.ports.Sink`."""
        run, state = event.run, event.state
        kind = run.kind.lower()
        name = run.facts[kind] if isinstance(run, VisitedRun) else run.definition.name
        about = {f"penstock.{kind}.name": name}
        if state.previous is not None:
            self._active.add(-1, {**about, "penstock.run.state": state.previous.type.value})
        about["penstock.run.state"] = state.type.value
        if not state.is_final():
            self._active.add(1, about)
            return
        if state.type in _ERRORS and state.data is not None:
            about["error.type"] = _qualified(type(state.error))
        self._duration.record(state.timestamp - _first(state).timestamp, about)


class _SpanTrace:
    """See `penstock.ports.Trace`: a span as the current one."""

    __slots__ = ("_inside", "tracer")

    def __init__(self, inside: context.Context, tracer: OpenTelemetry) -> None:
        self._inside = inside
        self.tracer = tracer

    @property
    def span(self) -> trace.Span:
        """The run's span."""
        return trace.get_current_span(self._inside)

    def attach(self) -> Callable[[], None]:
        """Make the span the current one."""
        return partial(context.detach, context.attach(self._inside))

    def __reduce__(self) -> tuple[Any, ...]:
        headers: dict[str, str] = {}
        propagate.inject(headers, self._inside)
        return _arrive, (headers,)


def _arrive(headers: Mapping[str, str]) -> _SpanTrace:
    """On a worker: the place of a span that the driver has begun, and will end."""
    inside = propagate.extract(headers, context.Context())
    return _SpanTrace(inside, _of_this_process())


@cache
def _of_this_process() -> OpenTelemetry:
    return OpenTelemetry()


def _mark(run: Any, state: State) -> None:
    """Note a state between the first and the last, and the failure of the attempt before it if there was one."""
    span, when = run.trace.span, _nanoseconds(state)
    if isinstance(state.data, BaseException):
        span.record_exception(state.data, timestamp=when)
    span.add_event(state.name, {"penstock.run.attempt": run.attempt}, when)


def _end(run: Any, state: State) -> None:
    span, when = run.trace.span, _nanoseconds(state)
    span.set_attributes(
        {
            "penstock.run.name": run.name,  # may name arguments, which were not all there when the span began
            "penstock.run.state": state.type.value,
            "penstock.run.state_name": state.name,
            "penstock.run.attempts": run.attempt,
        }
    )
    if run.worker:
        span.set_attribute("penstock.run.worker", run.worker)
    if state.type in _ERRORS:
        span.set_status(trace.StatusCode.ERROR, state.message)
        span.set_attribute("error.type", _qualified(type(state.error)))
        span.record_exception(state.error, timestamp=when)
    span.end(when)


def _first(state: State) -> State:
    while state.previous is not None:
        state = state.previous
    return state


def _nanoseconds(state: State) -> int:
    return int((state.timestamp or 0.0) * 1e9)


def _qualified(named: Any) -> str:
    """The full name of a function or class, as semantic conventions want it."""
    name = getattr(named, "__qualname__", type(named).__qualname__)
    module = getattr(named, "__module__", None)
    return name if module in (None, "builtins") else f"{module}.{name}"
