"""A result store that fails on purpose, to test whoever stands on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from penstock_results.blobs import Blobs, Bytes, Entry, Sink
from penstock_results.store import ResultStore

__all__ = ("FaultyStore", "Killed", "Saboteur")


class Killed(BaseException):
    """The process died at this point, as far as anybody outside can tell: nothing is cleaned up."""


class Saboteur:
    """Decides what goes wrong, call by call.

    Args:
        plan: Gives, for every call in turn, a fault or None: ``fail_before``, ``fail_after``, ``tear`` (half of the
            data, then an error on writing, silence on reading), ``kill``, or ``delay``; after its end nothing fails.
        delay: What to call for ``delay``.
    """

    def __init__(self, plan: Iterator[str | None], delay: Callable[[], None] = lambda: None) -> None:
        self._plan = plan
        self._delay = delay
        self.dead = False

    def next(self) -> str | None:
        """Return the next fault, having waited if it is a delay."""
        fault = next(self._plan, None)
        if fault == "delay":
            self._delay()
            return None
        return fault

    def act(self, work: Callable[[], Any]) -> Any:
        """Do the work, well or badly."""
        fault = self.next()
        if fault == "kill":
            self.dead = True
            raise Killed
        if fault in ("fail_before", "tear"):
            raise OSError("sabotage, before")
        result = work()
        if fault == "fail_after":
            raise OSError("sabotage, after")
        return result


class FaultyStore(ResultStore):
    """A store over a place in which a saboteur is at work; everything else about it is real.

    Args:
        url: Where the place is.
        saboteur: Who is at work there.
    """

    def __init__(self, url: str, saboteur: Saboteur) -> None:
        super().__init__(url)
        self._saboteur = saboteur

    @property
    def blobs(self) -> Blobs:
        """The place, sabotaged."""
        return _FaultyBlobs(super().blobs, self._saboteur)


class _FaultyBlobs:
    def __init__(self, blobs: Blobs, saboteur: Saboteur) -> None:
        self._blobs = blobs
        self._saboteur = saboteur

    def create(self, name: str) -> Sink:
        sink: Sink = self._saboteur.act(lambda: self._blobs.create(name))
        return _FaultySink(sink, self._saboteur)

    def read(self, name: str, *, private: bool) -> memoryview:
        return self._torn(self._blobs.read(name, private=private))

    def start(self, name: str, size: int) -> tuple[memoryview, int]:
        view, total = self._blobs.start(name, size)
        return self._torn(view), total

    def list(self, prefix: str) -> Iterator[Entry]:
        entries: Iterator[Entry] = self._saboteur.act(lambda: self._blobs.list(prefix))
        return entries

    def delete(self, name: str) -> None:
        self._saboteur.act(lambda: self._blobs.delete(name))

    def orphans(self, before: float) -> Iterator[str]:
        return self._blobs.orphans(before)

    def sweep(self, orphan: str) -> None:
        self._blobs.sweep(orphan)

    def _torn(self, view: memoryview) -> memoryview:
        fault = self._saboteur.next()
        if fault in ("fail_before", "fail_after"):
            raise OSError("sabotage of a read")
        return view[: len(view) // 2] if fault == "tear" else view


class _FaultySink:
    def __init__(self, sink: Sink, saboteur: Saboteur) -> None:
        self._sink = sink
        self._saboteur = saboteur

    def write(self, data: Bytes) -> None:
        fault = self._saboteur.next()
        if fault == "tear":
            self._sink.write(memoryview(data)[: len(data) // 2])
            raise OSError("sabotage, halfway")
        if fault == "kill":
            self._saboteur.dead = True
            raise Killed
        if fault == "fail_before":
            raise OSError("sabotage, before")
        self._sink.write(data)
        if fault == "fail_after":
            raise OSError("sabotage, after")

    def commit(self) -> None:
        self._saboteur.act(self._sink.commit)

    def abort(self) -> None:
        if not self._saboteur.dead:
            self._sink.abort()
