"""Penstock and its peers side by side: the same work, each in an environment and in processes of its own.

python benchmarks/side_by_side.py               all; keeps the figures and writes docs/reference/performance.md
python benchmarks/side_by_side.py NAME ...      only these, beside the figures that are kept of the others
python benchmarks/side_by_side.py --only WORK ...    only this kind of work, beside what is kept of the other kinds
python benchmarks/side_by_side.py --small NAME ...   a fraction of the size, and keeps nothing

What a peer does is in its one file in benchmarks/peers; what is measured, in peers/work.py. A peer that cannot be
installed, or cannot do some of the work, is a line of the table.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import environments
import figures
import measure
import page
import peer_tables
import watched
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PROGRAMS = Path(__file__).parent / "peers"
WORKS = ("overhead", "fanout", "once", "cpu", "large", "cold")
ROUNDS = 5


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        counts: Tasks of a fan-out; each is tried only if the one before was finished.
        held: Tasks whose memory is looked at, if a fan-out of a tenth was finished; which is much sooner told.
        burning: Tasks and milliseconds of each, as the counts.
        rounds: How often a large result is kept, and the cold start made.
        settings: What `work` reads from its environment.
        patience: Seconds that a program gets besides its rounds.
    """

    counts: tuple[int, ...]
    held: tuple[int, ...]
    burning: tuple[tuple[int, float], ...]
    rounds: int
    settings: dict[str, str]
    patience: float


FULL = Size(
    (1_000, 10_000, 100_000),
    (100, 1_000, 10_000, 100_000),
    ((200, 20), (2_000, 1)),
    ROUNDS,
    {"CAP": "60", "MEGABYTES": "512", "ROUND": "2"},
    120.0,
)
SMALL = Size((100,), (10, 100), ((20, 1),), 1, {"CAP": "10", "MEGABYTES": "5", "ROUND": "0.02"}, 20.0)


@dataclass(frozen=True)
class Case:
    """One process of a peer's program.

    Attributes:
        what: The kind of work; see peers/work.py.
        arguments: What else the program is told.
        memory: Whether it is run to look at its memory, not for the time.
        after: The key of the case without which this one is not tried.
    """

    what: str
    arguments: tuple[str, ...]
    memory: bool = False
    after: str | None = None

    @property
    def key(self) -> str:
        """Its name among the figures."""
        return " ".join(["memory" if self.memory else "time", self.what, *self.arguments])


def cases(facts: dict[str, Any], size: Size) -> Iterator[Case]:
    """What a peer that can do this much is asked to do."""
    for way in facts["ways"]:
        yield Case("overhead", (way,))
    for way in facts["fan_outs"]:
        yield from _growing("fanout", [(way, str(count)) for count in size.counts])
    main = facts["fan_outs"][0]
    for count in size.held:
        tenth = Case("fanout", (main, str(count // 10))).key if count // 10 in size.counts else None
        yield Case("once", (main, str(count)), memory=True, after=tenth)
    for way in facts["parallel"]:
        yield from _growing("cpu", [(way, str(count), str(each)) for count, each in size.burning])
    if facts["large"]:
        yield Case("large", (str(size.rounds),))
        yield Case("large", ("1",), memory=True)
    yield Case("cold", (main,))
    yield Case("cold", (main,), memory=True)


def _growing(what: str, several: Sequence[tuple[str, ...]]) -> Iterator[Case]:
    before = None
    for arguments in several:
        case = Case(what, arguments, after=before)
        yield case
        before = case.key


class Peer:
    """A peer's program, and what came of its cases.

    Attributes:
        figures: What is kept of it.
    """

    def __init__(self, name: str, size: Size) -> None:
        self._program = PROGRAMS / f"with_{name}.py"
        self._size = size
        self.figures: dict[str, Any] = {
            "name": name,
            "about": ast.get_docstring(ast.parse(self._program.read_text(encoding="utf-8"))),
            "measured": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": measure.machine(),
            "versions": {},
            "cases": {},
        }

    def prepare(self) -> list[Case]:
        """Install it and ask what it can do; nothing if that fails, and the figures say why."""
        try:
            self._python = environments.interpreter(self.figures["name"], self._program)
        except environments.CannotInstall as error:
            self.figures["failed"] = str(error)
            return []
        facts = self._once(Case("ways", ()))
        if "failed" in facts:
            self.figures["failed"] = facts["failed"]
            return []
        self.figures["versions"] = facts["versions"]
        return list(cases(facts, self._size))

    def measure(self, case: Case) -> None:
        """Do one case; whatever goes wrong is what came of it."""
        done = self.figures["cases"]
        if case.after is not None and not finished(done.get(case.after, {})):
            done[case.key] = {"untried": True}
            return
        report = self._once(case)
        if case.what == "cold" and not case.memory:
            for _ in range(self._size.rounds - 1):
                report["rounds"] += self._once(case).get("rounds", [])
        done[case.key] = report

    def _once(self, case: Case) -> dict[str, Any]:
        """Run the program once, and give its report with what was seen from outside."""
        limit = float(self._size.settings["CAP"]) * (ROUNDS + 3) + self._size.patience
        with tempfile.TemporaryDirectory(prefix="penstock-peers-", ignore_cleanup_errors=True) as folder:
            report = Path(folder) / "report.json"
            command = [self._python, str(self._program), str(report), case.what, *case.arguments]
            ended = watched.run(command, Path(folder), limit, memory=case.memory)
            if not report.exists():
                over = f"stopped after {limit:.0f} s" if ended.status is None else f"ended with {ended.status}"
                return {"failed": f"{over}: {ended.last_words}"}
            found = dict(json.loads(report.read_text()))
        if case.what == "cold" and "ended" in found:
            found["rounds"] = [found.pop("ended") - ended.began]
        return found | ({"peak_mb": ended.peak_mb} if case.memory else {})


def finished(figures: dict[str, Any]) -> bool:
    """Whether all rounds of a case came to their end."""
    return bool(figures.get("rounds")) and "unfinished" not in figures


def compare(names: Sequence[str], works: Sequence[str], size: Size, *, keep: bool) -> list[dict[str, Any]]:
    """Measure peer after peer, and keep what there is after every case."""
    os.environ.update({f"PENSTOCK_BENCH_{name}": value for name, value in size.settings.items()})
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    found = list[dict[str, Any]]()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for name in names:
            peer = Peer(name, size)
            bar = progress.add_task(f"{name}: install", total=None)
            plan = [case for case in peer.prepare() if case.what in works]
            if keep and (before := figures.read(f"peers/{name}")) is not None and len(works) < len(WORKS):
                peer.figures["cases"] = before["cases"]
            progress.update(bar, total=len(plan))
            for case in plan:
                progress.update(bar, description=f"{name}: {case.key}")
                peer.measure(case)
                progress.advance(bar)
                if keep:
                    figures.keep(f"peers/{name}", peer.figures)
            if keep and not plan:
                figures.keep(f"peers/{name}", peer.figures)
            progress.update(bar, description=f"{name} {peer.figures.get('failed', '')[:100]}")
            found.append(peer.figures)
    return found


def main() -> int:
    """Compare what was asked for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that was started
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(page.PEERS))
    parser.add_argument("--only", metavar="WORK", choices=WORKS, help=", ".join(WORKS))
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(page.PEERS):
        parser.error(f"there is no peer {', '.join(sorted(unknown))}; there are {', '.join(page.PEERS)}")
    size, works = SMALL if options.small else FULL, [options.only] if options.only else WORKS
    found = compare(options.names or page.PEERS, works, size, keep=not options.small)
    for table in peer_tables.tables(found if options.small else figures.peers(page.PEERS)):
        table.show()
    if not options.small:
        page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
