"""The modules whose names are promised and described in the reference, besides `penstock` itself."""

PROMISED = (
    "penstock.cache_policies",
    "penstock.errors",
    "penstock.exceptions",
    "penstock.flow_runs",
    "penstock.flows",
    "penstock.futures",
    "penstock.history",
    "penstock.opentelemetry",
    "penstock.ports",
    "penstock.records",
    "penstock.results",
    "penstock.runners",
    "penstock.runtime",
    "penstock.states",
    "penstock.task_runs",
    "penstock.tasks",
    "penstock.testing",
)
