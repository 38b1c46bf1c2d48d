# From docs/howto/opentelemetry.md.
"""Prints the spans of a flow, its tasks, and what a task traces itself."""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from penstock import Engine, flow, task
from penstock.opentelemetry import OpenTelemetry

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"{span.name}\n")))
tracer = provider.get_tracer(__name__)


@task(retries=1)
def load(path: str) -> int:
    with tracer.start_as_current_span("parse"):
        return len(path)


@flow
def etl(paths: list[str]) -> int:
    return sum(load.map(paths).result())


if __name__ == "__main__":
    with Engine(sinks=[OpenTelemetry(tracer_provider=provider)]):
        assert etl(["a.csv", "bc.csv"]) == 11
        assert trace.get_current_span() is trace.INVALID_SPAN  # nothing is left behind
