"""Dask: attempts execute on the workers of a `distributed` cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from penstock.errors import MissingContextError
from penstock.ports import Clock
from penstock_runners.clusters import ClusterTaskRunner
from penstock_runners.dask_cluster import ClusterSettings, connect
from penstock_runners.dask_session import Session
from penstock_runners.extras import distributed

__all__ = ("DaskTaskRunner", "get_dask_client")


class DaskTaskRunner(ClusterTaskRunner[Session]):
    """Runs calls on a Dask cluster: one that is there, or one that is started and stopped with the runner.

    Args:
        cluster: A cluster object to use; it is left as it was.
        address: The address of a scheduler to use, for example ``"tcp://10.0.0.1:8786"``.
        cluster_class: What to call for a cluster of our own: a class, or the name to import it by, for example
            ``"dask_kubernetes.operator.KubeCluster"``. By default a `distributed.LocalCluster`.
        cluster_kwargs: Its arguments.
        adapt_kwargs: Arguments for its ``adapt``, for example ``{"minimum": 1, "maximum": 10}``.
        client_kwargs: Arguments for the `distributed.Client`; ``timeout`` is the seconds to wait for the scheduler.
        performance_report_path: Where to write Dask's report of what the cluster did while the runner was open.
        lease: Seconds that a worker may be stopped by a signal (SIGSTOP, a debugger) before it is killed and what it
            was at is given up as crashed. For a cluster of our own whose workers have nannies; elsewhere a frozen
            worker is the cluster's business. A worker that is merely busy or waits is never given up.

    Raises:
        ConfigurationError: If the arguments name more than one cluster, or the lease is not positive.

    A task's ``options`` may set Dask's ``resources``, ``priority``, ``workers`` and ``allow_other_workers``.
    """

    batch_seconds: float = 0.3
    """A trip costs the driver 9 ms of its processor: with 0.2, calls of 20 ms took a tenth longer
    (benchmarks/cpu.py)."""

    def __init__(
        self,
        cluster: Any = None,
        address: str | None = None,
        cluster_class: str | Callable[..., Any] | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        performance_report_path: str | os.PathLike[str] | None = None,
        lease: float = 30.0,
    ) -> None:
        self._settings = ClusterSettings(
            cluster=cluster,
            address=address,
            cluster_class=cluster_class,
            cluster_kwargs=dict(cluster_kwargs or {}),
            adapt_kwargs=dict(adapt_kwargs or {}),
            client_kwargs=dict(client_kwargs or {}),
            performance_report_path=performance_report_path,
            lease=lease,
        )

    @property
    def capacity(self) -> int:
        """How many threads the cluster's workers have."""
        return self._session.slots if self._session is not None else os.cpu_count() or 1

    def open(self, clock: Clock) -> None:
        """Start or find the cluster; blocks until it answers.

        Raises:
            MissingExtra: If Dask is not installed.
            RunnerError: If the cluster cannot be started or reached, or cannot run our tasks.
        """
        self._session = Session(connect(self._settings), self._settings.lease, self.on_line)
        super().open(clock)

    def duplicate(self) -> Self:
        """Make an unopened runner with the same settings, the same given cluster included."""
        return type(self)(**{name: getattr(self._settings, name) for name in self._settings.__dataclass_fields__})


@contextmanager
def get_dask_client() -> Generator[Any, None, None]:
    """Give the code of a task a `distributed.Client` of the cluster that it runs on.

    While the block waits for what it submitted, the worker's slot is free for others.

    Raises:
        MissingContextError: If this is not a Dask worker.
    """
    context = distributed().worker_client()
    try:
        client = context.__enter__()
    except ValueError as error:
        raise MissingContextError(
            "get_dask_client() only works inside a task that a DaskTaskRunner runs: this is not a Dask worker"
        ) from error
    try:
        yield client
    finally:
        context.__exit__(None, None, None)
