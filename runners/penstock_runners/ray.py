"""Ray: attempts execute in the worker processes of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from penstock.errors import ConfigurationError
from penstock.ports import Call, Clock
from penstock_runners.clusters import ClusterTaskRunner
from penstock_runners.ray_cluster import RaySettings
from penstock_runners.ray_session import Session

__all__ = ("RayTaskRunner", "remote_options")

_options: ContextVar[Mapping[str, Any] | None] = ContextVar("_options", default=None)

# What a task's own `options` may say to Ray; other names in it are other runners' business.
_TASK_OPTIONS = (
    "num_cpus",
    "num_gpus",
    "resources",
    "memory",
    "accelerator_type",
    "scheduling_strategy",
    "runtime_env",
)

# Penstock decides how often something runs, and how what it gives comes home.
_OURS = frozenset({"max_retries", "num_returns", "retry_exceptions"})


class RayTaskRunner(ClusterTaskRunner[Session]):
    """Runs calls on Ray: in the session that this process has, on a cluster, or on a Ray that starts with the runner.

    Args:
        address: The address of a cluster's head, for example ``"10.0.0.1:6379"``, or ``"auto"`` on one of its nodes;
            ``"local"`` for one of our own even where the environment variable ``RAY_ADDRESS`` names another.
        init_kwargs: Arguments for ``ray.init``, for example ``{"num_cpus": 4}``.
        lease: Seconds that a worker may be stopped by a signal (SIGSTOP, a debugger) before it is killed and what it
            was at is given up as crashed. For a Ray of our own; elsewhere a frozen worker is the cluster's business. A
            worker that is merely busy or waits is never given up.

    Raises:
        ConfigurationError: If the address stands inside ``init_kwargs`` or is Ray Client's (``ray://``), or the lease
            is not positive.

    A Ray of our own listens on the loopback interface only, keeps at most 512 MiB of objects unless
    ``object_store_memory`` says otherwise, and is gone when the runner is closed or this process ends.

    A task's ``options`` may set ``num_cpus`` (1 by default), ``num_gpus``, ``resources``, ``memory``,
    ``accelerator_type``, ``scheduling_strategy`` and ``runtime_env``; `remote_options` sets them for a block.
    """

    def __init__(
        self, address: str | None = None, init_kwargs: Mapping[str, Any] | None = None, lease: float = 30.0
    ) -> None:
        self._settings = RaySettings(address, dict(init_kwargs or {}), lease)

    @property
    def capacity(self) -> int:
        """How many CPUs Ray has."""
        if self._session is not None:
            return self._session.slots
        return int(self._settings.init_kwargs.get("num_cpus") or os.cpu_count() or 1)

    def open(self, clock: Clock) -> None:
        """Start Ray or find it; blocks until it answers, some seconds for a Ray of our own.

        Raises:
            MissingExtra: If Ray is not installed.
            RunnerError: If Ray cannot be started or reached.
        """
        self._session = Session(self._settings, self.on_line, _options_of)
        super().open(clock)

    def duplicate(self) -> Self:
        """Make an unopened runner with the same settings."""
        return type(self)(self._settings.address, self._settings.init_kwargs, self._settings.lease)


@contextmanager
def remote_options(**options: Any) -> Generator[None, None, None]:
    """Submit the tasks of the block with these options for ``ray.remote``; inner blocks add to outer ones.

    ::

        with remote_options(num_cpus=4, num_gpus=1):
            future = train.submit(data)

    Args:
        options: For example ``num_cpus``, ``num_gpus``, ``resources``, ``memory``.

    Raises:
        ConfigurationError: If an option is one that Penstock sets itself.
    """
    if refused := _OURS & options.keys():
        raise ConfigurationError(
            f"remote_options cannot set {', '.join(sorted(refused))}: use the task's own retries and crash_retries"
        )
    token = _options.set({**(_options.get() or {}), **options})
    try:
        yield
    finally:
        _options.reset(token)


def _options_of(call: Call) -> dict[str, Any]:
    task = {name: call.work.options[name] for name in _TASK_OPTIONS if name in call.work.options}
    block: Mapping[str, Any] | None = call.context.run(_options.get, None)
    return {**task, **(block or {})}
