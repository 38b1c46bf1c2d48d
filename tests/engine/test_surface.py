"""The public surface: what is exported, and what importing costs."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from types import FunctionType

import pytest
from promised import PROMISED

import penstock
import penstock_history
import penstock_results
import penstock_runners

MODULES = sorted(
    module.name
    for package in (penstock, penstock_history, penstock_results, penstock_runners)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.ispkg and module.name != "penstock.__main__"
)

HEAVY = ["pydantic", "fsspec", "dask", "distributed", "ray", "sqlite3", "anyio", "numpy", "pandas", "pytest", "orjson"]
"""What ``from penstock import ...`` must not bring along."""


@pytest.mark.parametrize("name", ["penstock", *MODULES])
def test_all_is_a_tuple_of_names_that_exist(name: str) -> None:
    module = importlib.import_module(name)
    exported = module.__all__
    assert isinstance(exported, tuple)
    assert len(set(exported)) == len(exported)
    assert [entry for entry in exported if not hasattr(module, entry)] == []


@pytest.mark.parametrize("name", PROMISED)
def test_what_looks_public_is_exported(name: str) -> None:
    module = importlib.import_module(name)
    own = {
        entry
        for entry, thing in vars(module).items()
        if isinstance(thing, type | FunctionType) and thing.__module__ == name and not entry.startswith("_")
    }
    between_host_and_engine = {"Lost", "Closed"} if name == "penstock.errors" else set()
    assert own - set(module.__all__) == between_host_and_engine


@pytest.mark.parametrize(
    "name",
    [
        "Engine",
        "Flow",
        "State",
        "Task",
        "__version__",
        "allow_failure",
        "as_completed",
        "flow",
        "get_run_logger",
        "quote",
        "runtime",
        "tags",
        "task",
        "unmapped",
        "wait",
    ],
)
def test_the_names_that_everybody_uses(name: str) -> None:
    assert name in penstock.__all__
    assert hasattr(penstock, name)


@pytest.mark.parametrize("name", ["SequentialTaskRunner", "ThreadPoolTaskRunner", "ConcurrentTaskRunner"])
def test_the_runners_that_everybody_uses(name: str) -> None:
    from penstock import runners

    assert hasattr(runners, name)


def test_an_import_brings_nothing_heavy() -> None:
    code = f"import json, sys; from penstock import *; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_engine_is_imported_when_a_name_of_it_is_asked_for() -> None:
    code = """
import sys, penstock
assert "asyncio" not in sys.modules
assert set(penstock.__all__) <= set(dir(penstock))
try:
    penstock.flwo
except AttributeError as error:
    assert str(error) == "module 'penstock' has no attribute 'flwo'"
else:
    sys.exit("a name that nobody has was found")
assert "asyncio" not in sys.modules
assert penstock.flow is penstock.flow
assert "penstock.engine" in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_running_a_plain_flow_brings_nothing_heavy() -> None:
    code = f"""
import json, sys
from penstock import flow, task
@task
def work(x: int) -> int:
    return x + 1
@flow
def run(x: int) -> int:
    return work(x) + work.submit(x).result()
assert run(1) == 4
print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_an_import_starts_no_thread_and_touches_nothing() -> None:
    code = """
import logging, signal, sys, threading
before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook, print)
import penstock.runners
from penstock import *
assert threading.active_count() == 1
assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook, print)
assert not logging.getLogger().handlers
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_error_is_in_the_tree() -> None:
    from penstock import errors

    beside = {"Cancelled"}
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.PenstockError) != (name in beside), name
    assert issubclass(errors.Cancelled, BaseException)
    assert not issubclass(errors.Cancelled, Exception)


def test_the_peers_name_for_the_errors_module() -> None:
    from penstock import errors, exceptions

    assert exceptions.__all__ == errors.__all__
    assert exceptions.UpstreamFailed is errors.UpstreamFailed
