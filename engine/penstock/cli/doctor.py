"""``penstock doctor``: what is installed, what works here, and what to do about the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from penstock.cli.exits import Exit
from penstock.cli.output import Cell, json_option, print_json, print_line

if TYPE_CHECKING:
    from penstock.ports import Runner

__all__ = ("command",)


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        status: ``fault`` for what does not work and should; ``note`` for what is merely absent.
        subject: What was checked.
        says: What there is.
        advice: What to do, if something is to be done.
    """

    status: Literal["ok", "note", "fault"]
    subject: str
    says: str
    advice: str = ""


@click.command("doctor")
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Check what is installed and what works here, and say what to do about the rest.

    Stores a value, records a run and runs a task on threads and in a process, all in a temporary folder in the home.
    The exit code is 1 if something is at fault.
    """
    import logging

    logging.getLogger("penstock").setLevel(logging.CRITICAL)  # what goes wrong is said below
    findings: list[Finding] = []
    for subject, check in _CHECKS.items():
        for finding in _made(subject, check):
            findings.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    if any(finding.status == "fault" for finding in findings):
        context.exit(Exit.FAILED)


def _made(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; one that fails is a finding itself."""
    try:
        yield from check()
    except Exception as error:  # whatever is wrong with this machine: to find it is what the command is for
        yield Finding("fault", subject, f"{type(error).__name__}: {error}")


_STYLES = {"ok": "green", "note": "yellow", "fault": "bold red"}


def _show(finding: Finding) -> None:
    print_line(Cell(f"{finding.status:5}", _STYLES[finding.status]), f"  {finding.subject:12}  {finding.says}")
    if finding.advice:
        print_line(f"{'':21}{finding.advice}")


def _python() -> Iterator[Finding]:
    import penstock

    version = ".".join(map(str, sys.version_info[:3]))
    place = Path(penstock.__file__).parent
    yield Finding("ok", "python", f"{sys.implementation.name} {version} on {sys.platform}, {sys.executable}")
    yield Finding("ok", "penstock", f"{penstock.__version__} in {place}")


def _packages() -> Iterator[Finding]:
    """What the distribution says it needs, and what it can use."""
    extras = _requirements()
    missing = [name for name in extras.pop("", []) if _version(name) is None]
    if missing:
        yield Finding(
            "fault", "packages", f"not installed: {', '.join(missing)}", "pip install --force-reinstall penstock"
        )
    for extra, names in extras.items():
        found = {name: _version(name) for name in names}
        if None in found.values():
            yield Finding("note", extra, "not installed", f"If you want it: pip install 'penstock[{extra}]'")
        else:
            yield Finding("ok", extra, ", ".join(f"{name} {version}" for name, version in found.items()))


def _requirements() -> dict[str, list[str]]:
    """The packages of each extra; those that are always needed under an empty name."""
    import re
    from importlib.metadata import requires

    extras: dict[str, list[str]] = {"": []}
    for line in requires("penstock") or ():
        found = re.fullmatch(r"([\w.-]+)[^;]*(?:;.*extra == ['\"](\w+)['\"].*)?", line)
        if found is not None and found[2] not in ("all", "dev"):
            extras.setdefault(found[2] or "", []).append(found[1])
    return extras


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _home() -> Iterator[Finding]:
    import shutil

    from penstock.settings import home

    folder = home()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("fault", "home", f"{folder} may not be written", "Name another folder in PENSTOCK_HOME.")
        return
    free = shutil.disk_usage(folder).free / 1e9
    yield Finding("ok", "home", f"{folder}, {free:.1f} GB free")


def _settings() -> Iterator[Finding]:
    from penstock.cli.config import settings_given

    for setting in settings_given():
        says = f"{setting.source}: {setting.trouble}"
        if not setting.known:
            yield Finding("note", "settings", says, "It has no effect. See: penstock config show")
        elif setting.trouble:
            yield Finding("fault", "settings", says, "Whatever reads it fails. See: penstock config show")


def _history() -> Iterator[Finding]:
    """Record a run in a file of its own, and look at the history that is in use."""
    from contextlib import closing
    from tempfile import TemporaryDirectory

    from penstock.cli.words import byte_count
    from penstock.engine import Engine
    from penstock.flows import flow
    from penstock.settings import home
    from penstock.wiring import default_history
    from penstock_history.history import History

    with TemporaryDirectory(prefix="doctor-", dir=home()) as folder:
        trial = History(Path(folder) / "history.db")
        with Engine(history=trial):
            flow(_nothing)()
        says = f"a run was recorded in a file, and {len(trial.runs())} read back"
    yield Finding("ok", "history", says)
    used = default_history()
    if used is None:
        yield Finding("note", "history", "off: PENSTOCK_HISTORY is none")
        return
    with closing(used.database.open_reader()) as reader:
        facts = reader.facts()
    counts = f"{facts['flow_runs']:,} flow runs and {facts['task_runs']:,} task runs"
    yield Finding("ok", "history", f"{used.url}: {facts['database']}, {counts}, {byte_count(facts['bytes'])}")


def _nothing() -> None:
    """What a flow does that is only there to be recorded."""


def _results() -> Iterator[Finding]:
    from penstock.wiring import open_store

    store = open_store(None)
    reference = store.write("a value of the doctor's")
    try:
        if store.read(reference) != "a value of the doctor's":
            yield Finding("fault", "results", f"{store!r} gave back something else than was written")
            return
    finally:
        store.delete(reference.key)
    yield Finding("ok", "results", f"{store!r}: a value was written, read and deleted")


def _threads() -> Iterator[Finding]:
    from penstock.runners import ThreadPoolTaskRunner

    yield from _tried("threads", ThreadPoolTaskRunner(max_workers=1))


def _processes() -> Iterator[Finding]:
    from penstock.runners import ProcessPoolTaskRunner

    yield from _tried("processes", ProcessPoolTaskRunner(max_workers=1))


def _tried(subject: str, runner: Runner) -> Iterator[Finding]:
    """Run a task, and ask it in which process it is."""
    from penstock.engine import Engine
    from penstock.flows import flow
    from penstock.tasks import task

    @flow(task_runner=runner)
    def trial() -> int:
        return task(os.getpid).submit().result()

    with Engine():
        where = trial()
    yield Finding("ok", subject, f"a task ran in {'this process' if where == os.getpid() else f'process {where}'}")


_CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "packages": _packages,
    "home": _home,
    "settings": _settings,
    "history": _history,
    "results": _results,
    "threads": _threads,
    "processes": _processes,
}
