"""Which Dask cluster a runner talks to, and what of it is the runner's own.

Whatever `connect` starts is closed by `Connection.close`; a cluster that was handed in, or that lies behind an
address, is only talked to. Our own clusters listen on the loopback interface, open no dashboard, and give up a task
whose worker died: Dask would otherwise run it up to three more times.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import platform
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

from penstock.errors import ConfigurationError, RunnerError
from penstock_runners.extras import distributed
from penstock_runners.leases import check_lease

__all__ = ("ClusterSettings", "Connection", "connect")

# Seconds until a scheduler that does not answer counts as unreachable; a user's `timeout` in client_kwargs wins. One of
# our own has just answered, and is only slow where the machine has too much to do.
CONNECT_TIMEOUT = 5.0
OWN_TIMEOUT = 120.0

# A cluster gives up the place of a worker that was killed if some time afterwards, 15 s by default, no successor is
# there at that moment: because it starts slowly, or was killed in its turn. That would leave calls without workers.
_PATIENT = {"distributed.deploy.lost-worker-timeout": "1 day"}

# What a cluster finds out about itself for its dashboard: each process measures its loop 50 times a second and looks at
# its stack 100 times, which takes 6 % of two processors while there is nothing to do (benchmarks/cpu.py).
_UNWATCHED = {"distributed.admin.tick.interval": "1s", "distributed.worker.profile.enabled": False}

# What Dask writes into this process's environment whenever it starts a worker from here, beside the names that its
# setting distributed.nanny.pre-spawn-environ lists. It never takes them back.
_LEAKED = ("PYTHONHASHSEED", "__DASK_PARENT_PID")


@dataclass(frozen=True)
class ClusterSettings:
    """Where the cluster is, or how to start one; checked when it is made.

    Raises:
        ConfigurationError: If the settings name more than one cluster, or settings for starting one beside an
            existing one, or a lease that is not positive.
    """

    cluster: Any = None
    address: str | None = None
    cluster_class: str | Callable[..., Any] | None = None
    cluster_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    adapt_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    client_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    performance_report_path: str | os.PathLike[str] | None = None
    lease: float = 30.0

    def __post_init__(self) -> None:
        check_lease(self.lease, "DaskTaskRunner")
        given = [name for name in ("cluster", "address", "cluster_class") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(f"DaskTaskRunner takes one of cluster, address and cluster_class, not {given}")
        if not self.starts_cluster:
            refused = [name for name in ("cluster_kwargs", "adapt_kwargs") if getattr(self, name)]
            if refused:
                raise ConfigurationError(
                    f"DaskTaskRunner({given[0]}=...) uses a cluster that is already there and leaves it as it is: "
                    f"{' and '.join(refused)} would start or change one, leave them out"
                )

    @property
    def starts_cluster(self) -> bool:
        """Whether the runner starts its own cluster."""
        return self.cluster is None and self.address is None

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks at what the cluster finds out about itself, on a dashboard or in a report."""
        looks = (self.performance_report_path, self.cluster_class, self.cluster_kwargs.get("dashboard_address"))
        return any(look is not None for look in looks)


class Connection:
    """A client of a cluster, and everything that has to be let go of with it.

    Attributes:
        client: A synchronous `distributed.Client` on a loop thread of its own or of our own cluster.
        owned: Whether we started the cluster.
        local: Whether all its workers run on this machine.
        threads: How many tasks the cluster runs at the same time, as far as is known.
    """

    def __init__(self, client: Any, owned: bool, local: bool, threads: int, stack: ExitStack) -> None:
        self.client = client
        self.owned = owned
        self.local = local
        self.threads = threads
        self._stack = stack

    def close(self) -> None:
        """Leave the cluster, and stop it if it is ours."""
        self._stack.close()


def connect(settings: ClusterSettings) -> Connection:
    """Start or find the cluster and connect to it; blocks until it answers.

    Raises:
        MissingExtra: If Dask is not installed.
        RunnerError: If the cluster cannot be started or reached, or cannot run our tasks.
    """
    distributed()  # if it is missing, the error is to say so and nothing else
    with ExitStack() as stack:
        if settings.starts_cluster:
            restore = stack.enter_context(_environment_kept())
            cluster = stack.enter_context(_started(settings))
            restore()
            client = stack.enter_context(_client(cluster, settings))
            threads = _expected_threads(client, settings.adapt_kwargs)
        else:
            cluster = settings.cluster
            client = stack.enter_context(_client(_address(settings), settings))
            _check_versions(client)
            threads = sum(client.nthreads().values())
        if settings.performance_report_path is not None:
            stack.enter_context(_report(client, settings.performance_report_path))
        local = isinstance(cluster, distributed().LocalCluster)
        return Connection(client, settings.starts_cluster, local, max(1, threads), stack.pop_all())


@contextmanager
def _environment_kept() -> Generator[Callable[[], None], None, None]:
    """Give this process back the variables that starting workers overwrites.

    Yields:
        What does it now; it is done once more at the end, for workers that Dask replaced in between.
    """
    config = importlib.import_module("dask.config")
    names = (*_LEAKED, *(config.get("distributed.nanny.pre-spawn-environ") or ()))
    before = {name: os.environ.get(name) for name in names}
    try:
        yield partial(_restore_environment, before)
    finally:
        _restore_environment(before)


def _restore_environment(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_GUARD = (
    "In a script that starts worker processes, the code that runs the flow must stand under "
    "`if __name__ == '__main__':`, because they import the script."
)


def _refuse_to_start_from_a_worker() -> None:
    """Say it in one sentence where a worker that imports the script is about to start a cluster in its turn."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RunnerError(f"A worker process is importing the script, which started a cluster again. {_GUARD}")


@contextmanager
def _started(settings: ClusterSettings) -> Generator[Any, None, None]:
    _refuse_to_start_from_a_worker()
    kind = _cluster_class(settings.cluster_class)
    kwargs = {**_defaults(kind), **settings.cluster_kwargs}
    if not kwargs.get("processes", True):
        kwargs = {**kwargs, "host": settings.cluster_kwargs.get("host")}  # threads of this process have no address
    config = importlib.import_module("dask.config")
    with config.set(_PATIENT):
        try:
            with config.set({} if settings.is_watched else _UNWATCHED):  # only now: it holds for the whole process
                cluster = kind(**kwargs)
        except Exception as error:
            call, said = f"{kind.__name__}({_spelled(kwargs)})", str(error).rstrip(".")
            raise RunnerError(f"DaskTaskRunner could not start {call}: {said}. {_GUARD}") from error
        try:
            if settings.adapt_kwargs:
                cluster.adapt(**settings.adapt_kwargs)
            yield cluster
        finally:
            cluster.close()


def _cluster_class(given: str | Callable[..., Any] | None) -> Callable[..., Any]:
    if given is None:
        return cast("Callable[..., Any]", distributed().LocalCluster)
    if not isinstance(given, str):
        return given
    module, _, name = given.rpartition(".")
    try:
        return cast("Callable[..., Any]", getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"DaskTaskRunner(cluster_class={given!r}) cannot be imported: {error}") from error


def _defaults(kind: Callable[..., Any]) -> dict[str, Any]:
    """How a local cluster is started unless the user says otherwise; other clusters have their own defaults.

    One thread a worker, because the GIL lets CPU-bound tasks have no more. Dask's own log is silenced, because a lost
    worker is reported by the runs that it takes along.
    """
    if not (isinstance(kind, type) and issubclass(kind, distributed().LocalCluster)):
        return {}
    return {
        "host": "127.0.0.1",
        "dashboard_address": None,
        "threads_per_worker": 1,
        "processes": True,
        "silence_logs": logging.CRITICAL,
        "scheduler_kwargs": {
            "allowed_failures": 0,
            # Dask gives up a worker that has not been heard of for five minutes, which may hold the interpreter's lock.
            "worker_ttl": "1000 days",
            # The scheduler serves its health page even without a dashboard; not on the dashboard's well-known port.
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        },
    }


def _spelled(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in kwargs.items())


def _expected_threads(client: Any, adapt_kwargs: Mapping[str, Any]) -> int:
    """Threads that the cluster has, or may grow to."""
    threads: dict[str, int] = client.nthreads()
    largest = max(threads.values(), default=1)
    return max(sum(threads.values()), int(adapt_kwargs.get("maximum", 0)) * largest)


# --- the client ---------------------------------------------------------------------------------------------------


@contextmanager
def _client(where: Any, settings: ClusterSettings) -> Generator[Any, None, None]:
    timeout = OWN_TIMEOUT if settings.starts_cluster else CONNECT_TIMEOUT
    kwargs = {"timeout": timeout, "set_as_default": False, **settings.client_kwargs}
    if settings.cluster is not None and getattr(settings.cluster, "security", None) is not None:
        kwargs.setdefault("security", settings.cluster.security)
    try:
        client = distributed().Client(where, **kwargs)
    except Exception as error:
        raise RunnerError(
            f"DaskTaskRunner cannot reach the scheduler at {getattr(where, 'scheduler_address', where)}: {error}. "
            "Check the address and that the scheduler runs."
        ) from error
    try:
        yield client
    finally:
        client.close()


def _address(settings: ClusterSettings) -> str:
    """The scheduler's address; a given cluster is reached by it too, so that nothing of ours runs on its loop."""
    return settings.address if settings.address is not None else str(settings.cluster.scheduler_address)


def _check_versions(client: Any) -> None:
    """Refuse a cluster whose workers cannot run our tasks, before the first task finds out."""
    ours = tuple(platform.python_version_tuple()[:2])
    answers = client.run(_python_version, on_error="return")
    for worker, theirs in answers.items():
        if isinstance(theirs, BaseException):
            raise RunnerError(
                f"the Dask worker {worker} cannot run Penstock's tasks: {type(theirs).__name__}: {theirs}. "
                "Install the driver's version of penstock on the workers."
            )
        if tuple(theirs) != ours:
            raise RunnerError(
                f"the Dask worker {worker} runs Python {'.'.join(theirs)} and this driver Python {'.'.join(ours)}: "
                "functions travel as bytecode, so both need the same minor version"
            )


def _python_version() -> tuple[str, ...]:
    return tuple(platform.python_version_tuple()[:2])


@contextmanager
def _report(client: Any, path: str | os.PathLike[str]) -> Generator[None, None, None]:
    """Have Dask record what the cluster does, and write its report when the runner is closed."""
    if find_spec("bokeh") is None:  # Dask would say so when the work is done
        raise ConfigurationError(
            "DaskTaskRunner(performance_report_path=...) needs bokeh, with which Dask draws: pip install bokeh"
        )
    report = distributed().performance_report(filename=os.fspath(path))
    # Entered one by one: the runner may be closed in another thread and context than it was opened in.
    with client.as_current():
        report.__enter__()
    try:
        yield
    finally:
        with client.as_current():
            report.__exit__(None, None, None)
