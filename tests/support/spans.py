"""Traces as tests see them: spans by name, and a provider for workers, whose spans end up in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.opentelemetry import OpenTelemetry


class Traces:
    """A tracer provider and a meter provider of a test's own, and what came to them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._meters = MeterProvider([self._reader])
        self.tracer = self.provider.get_tracer("user")

    def sink(self) -> OpenTelemetry:
        """What an engine is given."""
        return OpenTelemetry(self.provider, self._meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        """The ended spans of that name."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        """The only ended span of that name."""
        (span,) = self.spans(name)
        return span

    def parent_of(self, name: str) -> str | None:
        """The name of the parent of the only span of that name; None for the root of a trace."""
        parent = self.span(name).parent
        if parent is None:
            return None
        (found,) = [span for span in self._exporter.get_finished_spans() if id_of(span) == parent.span_id]
        assert found.context is not None
        assert found.context.trace_id == parent.trace_id
        return found.name

    def points(self, metric: str) -> dict[tuple[str, str], Any]:
        """The points of a metric, by the name of the flow or task and the state."""
        data = self._reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        (found,) = [each for each in scope.metrics if each.name == metric]
        return {_key(dict(point.attributes or {})): point for point in found.data.data_points}

    def close(self) -> None:
        """Let go of both providers."""
        self.provider.shutdown()
        self._meters.shutdown()


def _key(attributes: dict[str, Any]) -> tuple[str, str]:
    name = attributes.get("penstock.task.name") or attributes["penstock.flow.name"]
    return name, attributes["penstock.run.state"]


def id_of(span: ReadableSpan) -> int:
    """A span's id."""
    assert span.context is not None
    return span.context.span_id


def here() -> tuple[int, int]:
    """The trace and the span in which the caller is."""
    context = trace.get_current_span().get_span_context()
    return context.trace_id, context.span_id


class _ToFile(SpanExporter):
    def __init__(self, file: Path) -> None:
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = [json.dumps([span.name, id_of(span), span.parent and span.parent.span_id]) + "\n" for span in spans]
        with self._file.open("a") as file:
            file.write("".join(lines))
        return SpanExportResult.SUCCESS


def trace_into(file: Path) -> None:
    """Give this process a global provider; for a pool's initializer."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_ToFile(file)))
    trace.set_tracer_provider(provider)


def read_spans(file: Path) -> dict[str, tuple[int, int | None]]:
    """What `trace_into` wrote: the id and the parent's id by the span's name."""
    return {name: (id_, parent) for name, id_, parent in map(json.loads, file.read_text().splitlines())}
