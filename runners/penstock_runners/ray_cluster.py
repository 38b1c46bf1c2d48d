"""Which Ray a runner talks to, and what of it is the runner's own.

A session that this process already has is used and left as it was. One that we start listens on the loopback
interface, opens no dashboard, asks every client for a token that it shares with nobody, writes into a folder of its
own, prints nothing, and is gone with this process.

Everything here is called on a thread that lives as long as the session. Ray asks the kernel to kill its processes with
their parent, and for Linux the parent is the *thread* that started them: `ray.init` on a thread that ends is over soon.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import tempfile
import time  # noqa: TID251 (how long the processes of a real Ray take to start)
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.errors import ConfigurationError, RunnerError
from penstock_runners import extras
from penstock_runners.leases import check_lease
from penstock_runners.ray_watchdog import Watchdog, descendants

__all__ = ("Connection", "RaySettings", "connect", "workers")

# Bytes; Ray would take a third of the machine's memory.
_OBJECT_STORE = 512 * 1024 * 1024

# Read by Ray when it is imported, some also when it starts: no copy of the project for `uv run`, no statistics for
# Ray's makers, no GPUs hidden from tasks that ask for none, addresses on the loopback interface, and nothing on the
# user's standard output about a lost worker, which is reported by the runs that it takes along.
_QUIET = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^A worker died or was killed while executing a task",
}

# Seconds that Ray's processes get to start. Ray gives most of them half a minute, which does not do where there is ten
# times more to do than there are processors.
_START = 300
_PATIENT = {
    "RAY_gcs_server_port_wait_time_s": str(_START),
    "RAY_agent_register_timeout_ms": str(_START * 1000),
    "RAY_worker_register_timeout_seconds": str(_START),
    # Whoever has lost his head for that long is ended by Ray, this process included: we look after it (`ray_head`).
    "RAY_gcs_rpc_server_reconnect_timeout_s": str(24 * 3600),
}

# One for the life of the process: Ray reads it once.
_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

# What Ray leaves in this process's environment.
_LEAKED = ("PYTHONBREAKPOINT", "RAY_CLIENT_MODE")

_imported_by_us = False


@dataclass(frozen=True)
class RaySettings:
    """Where Ray is, or how to start it."""

    address: str | None = None
    init_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lease: float = 30.0

    def __post_init__(self) -> None:
        check_lease(self.lease, "RayTaskRunner")
        if "address" in self.init_kwargs:
            raise ConfigurationError("RayTaskRunner takes the address as address=..., not inside init_kwargs")
        if self.address is not None:
            _refuse_client(self.address)

    @property
    def starts_ray(self) -> bool:
        """Whether a Ray of our own is started, unless this process has a session already."""
        return self.address == "local" or (self.address is None and not os.environ.get("RAY_ADDRESS"))


@dataclass(slots=True)
class Connection:
    """A session with Ray.

    Attributes:
        ray: The module.
        owned: Whether we started it.
        local: Whether all its workers run on this machine.
        head: Where its head listens, as host and port.
        cpus: How many calls it runs at the same time.
        stack: What to let go of.
    """

    ray: Any
    owned: bool
    local: bool
    head: str
    cpus: int
    stack: ExitStack

    def close(self) -> None:
        """Leave Ray, and stop it if it is ours."""
        self.stack.close()


def connect(settings: RaySettings) -> Connection:
    """Use the session that there is, or begin one; blocks until Ray answers.

    Raises:
        MissingExtra: If Ray is not installed.
        ConfigurationError: If that is Ray Client.
        RunnerError: If Ray cannot be started or reached.
    """
    there = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    if there and sys.modules["ray"].util.client.ray.is_connected():
        _refuse_client("ray://, to which this process is connected")
    if not there and not settings.starts_ray:
        _refuse_client(settings.address or os.environ["RAY_ADDRESS"])
    with ExitStack() as stack:
        if there:
            ray = extras.ray()
        elif settings.starts_ray:
            ray = stack.enter_context(_started(settings))
        else:
            ray = stack.enter_context(_joined(settings))
        cpus = int(ray.cluster_resources().get("CPU", 1))
        owned = settings.starts_ray and not there
        head = ray.get_runtime_context().gcs_address
        return Connection(ray, owned, _is_local(ray), head, max(1, cpus), stack.pop_all())


def _refuse_client(address: str) -> None:
    """Ray Client has no streams, as which the outcomes of a batch come home."""
    if address.startswith("ray://"):
        raise ConfigurationError(
            f"RayTaskRunner cannot use Ray Client ({address}). Give the address of the head itself, for example "
            "'10.0.0.1:6379', in a process on a node of the cluster, such as the entry point of a Ray job."
        )


def workers() -> list[int]:
    """The processes that execute Ray's tasks, of the Ray that this process has started."""
    return [pid for pid, _ in descendants(os.getpid()) if _executes_tasks(pid)]


def _executes_tasks(pid: int) -> bool:
    """Whether a process of Ray's is a worker: each calls itself by what it is at, and agents call themselves agents."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return title.startswith(b"ray::") and b"Agent" not in title


def _is_local(ray: Any) -> bool:
    here = socket.gethostname()
    return all(node["NodeManagerHostname"] == here for node in ray.nodes() if node["Alive"])


@contextmanager
def _started(settings: RaySettings) -> Generator[Any, None, None]:
    folder = tempfile.mkdtemp(prefix="psr-")  # short, because the path of a socket has room for a hundred characters
    watchdog = Watchdog(folder)
    kwargs = {"object_store_memory": _OBJECT_STORE, "include_dashboard": False, "_temp_dir": folder}
    try:
        with _environment():
            ray = extras.ray()
            services = ray._private.services
            before = {pid for pid, _ in descendants(os.getpid())}
            advice = "See the log files below Ray's temporary folder."
            try:
                with _replaced(services, "get_node", _waiting(services.get_node)):
                    _init(ray, {**kwargs, **settings.init_kwargs}, "start Ray", advice)
            finally:  # a Ray that could not be started in time has started processes, too
                watchdog.watch((pid, start) for pid, start in descendants(os.getpid()) if pid not in before)
        with _logging_less():
            try:
                yield ray
            finally:
                ray.shutdown()
    finally:
        watchdog.release()


def _waiting(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Have Ray wait for its node as long as for its other processes: that half minute is no setting."""

    def wait(*args: Any) -> Any:
        deadline = time.monotonic() + _START
        while True:
            try:
                return get_node(*args)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)  # Ray tells nobody when its node is there, it has to be asked

    return wait


@contextmanager
def _replaced(module: Any, name: str, replacement: Callable[..., Any]) -> Generator[None, None, None]:
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextmanager
def _joined(settings: RaySettings) -> Generator[Any, None, None]:
    ray = extras.ray()
    address = settings.address or os.environ["RAY_ADDRESS"]
    advice = "Check the address, that the cluster runs, and that it runs this version of Ray and of Python."
    _init(ray, {"address": address, **settings.init_kwargs}, f"reach Ray at {address}", advice)
    with _logging_less():
        try:
            yield ray
        finally:
            ray.shutdown()


def _init(ray: Any, kwargs: Mapping[str, Any], what: str, advice: str) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
    try:
        with _logging_less():
            ray.init(**{**quiet, **kwargs})
    except Exception as error:
        raise RunnerError(f"RayTaskRunner could not {what}: {type(error).__name__}: {error}. {advice}") from error


@contextmanager
def _environment() -> Generator[None, None, None]:
    """Set what Ray reads, unless the user has, and take it back, with what Ray left, when Ray has read it.

    The token must be there when Ray is imported. If somebody else has imported it, Ray is started without, as it was
    going to be; the loopback interface needs the early setting too.
    """
    global _imported_by_us
    _imported_by_us = _imported_by_us or "ray" not in sys.modules
    wanted = {**_QUIET, **_PATIENT, **(_TOKEN if _imported_by_us else {"RAY_AUTH_MODE": "disabled"})}
    if "RAY_AUTH_MODE" in os.environ:
        wanted = {**_QUIET, **_PATIENT}
    # Workers of our own find the modules that this process finds.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    before = {name: os.environ.get(name) for name in (*wanted, *_LEAKED, "PYTHONPATH")}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONPATH"] = path
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old


@contextmanager
def _logging_less() -> Generator[None, None, None]:
    """Silence what Ray's Python side logs below ERROR, a lost worker for example."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
