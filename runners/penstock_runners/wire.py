"""What travels between the driver and a worker, the same for every remote runner.

Three things travel. The *work* (the function, the arguments that all its calls share, the options) is pickled once
and named by the hash of its pickle; a worker that has it is never sent it again. A *batch* is a list of calls of one
work, each pickled by itself, so that what is wrong with one is wrong with none of the others. An *outcome* is packed
on the worker, value and error each by itself, for the same reason.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from penstock.errors import SerializationError
from penstock.ports import Call, LogLine, Outcome, Work
from penstock_runners import parameters, pickling, variables
from penstock_runners.failures import PackedError, pack_error, unpack_error
from penstock_runners.pickling import Packet, Pickled

__all__ = (
    "Attempt",
    "Batch",
    "PackedOutcome",
    "PackedWork",
    "Shelf",
    "Surroundings",
    "pack",
    "pack_outcome",
    "pack_work",
    "unpack_attempt",
    "unpack_outcome",
    "unpack_work",
)

ORIGIN = f"{os.getpid()}:{uuid.uuid4().hex}"
"""Names this process; a batch carries the driver's, so that a worker knows whether it is the driver itself."""


class PackedWork(NamedTuple):
    """A `Work` on its way, with the name that its content gives it."""

    digest: str
    pickled: Pickled


class Batch(NamedTuple):
    """Calls of one work on their way.

    Attributes:
        digest: Which work.
        origin: The driver's `ORIGIN`.
        log_level: What the driver's logger ``penstock`` lets through.
        surroundings: What calls have in common, their context variables and the facts of their runs; each distinct
            pair once.
        items: For each call the index of its surroundings, and its pickled arguments and its run's own facts.
    """

    digest: str
    origin: str
    log_level: int
    surroundings: list[Pickled]
    items: list[tuple[int, Pickled]]


Surroundings: TypeAlias = tuple[Mapping[variables.Name, Any], Mapping[str, Any]]
"""The context variables that came along, and the facts that runs have in common."""


class Attempt(NamedTuple):
    """One call as the worker sees it.

    Attributes:
        work: The function and what it shares with its siblings.
        args: Positional arguments.
        kwargs: Keyword arguments, without the work's constants.
        facts: What the run on the driver said of itself, shared and own.
        attempt: 1 for the first attempt of the run.
        variables: The context variables that came along.
    """

    work: Work
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    facts: Mapping[str, Any]
    attempt: int
    variables: Mapping[variables.Name, Any]


class PackedOutcome(NamedTuple):
    """An `Outcome` on its way home."""

    value: Pickled | None
    error: PackedError | None
    started: float
    ended: float
    worker: str
    logs: Sequence[LogLine]
    children: Sequence[Mapping[str, Any]]


class Shelf(OrderedDict[str, Any]):
    """The works that a worker holds, by digest, the least recently used leaving first.

    A driver that keeps a shelf of its own for a worker, and puts on it what it sends in the same order, knows what
    lies on the worker's.
    """

    SIZE = 32

    def take(self, digest: str) -> Any | None:
        """The work, now the most recently used; None if it is not here."""
        if digest not in self:
            return None
        self.move_to_end(digest)
        return self[digest]

    def put(self, digest: str, work: Any) -> None:
        """Add a work, in place of the least recently used one if the shelf is full."""
        self[digest] = work
        if len(self) > self.SIZE:
            self.popitem(last=False)


# --- the work -----------------------------------------------------------------------------------------------------

_packed: WeakKeyDictionary[Work, PackedWork] = WeakKeyDictionary()


def pack_work(work: Work) -> PackedWork:
    """Pickle a work, once in its life.

    Raises:
        SerializationError: If the function or a constant cannot be pickled.
    """
    packed = _packed.get(work)
    if packed is None:
        try:
            pickled = pickling.dumps_code(work)
        except Exception as error:
            raise _refused_work(work) from error
        packed = _packed[work] = PackedWork(_digest(pickled), pickled)
    return packed


def _digest(pickled: Pickled) -> str:
    head, buffers = pickled if isinstance(pickled, Packet) else (pickled, ())
    digest = hashlib.sha256(head)
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()


def unpack_work(packed: PackedWork, shelf: Shelf) -> Work:
    """Take a work from the shelf, or make it from its pickle and put it there.

    A work that cannot be made is put there too, as the error: the driver takes what it has sent to be on the shelf.
    """
    work: Any = shelf.take(packed.digest)
    if work is None or (isinstance(work, Exception) and packed.pickled):
        try:
            work = pickling.loads(packed.pickled)
        except Exception as error:
            work = error
        shelf.put(packed.digest, work)
    if isinstance(work, Exception):
        raise work
    made: Work = work
    return made


# --- the calls ----------------------------------------------------------------------------------------------------


def pack(calls: Sequence[Call], digest: str) -> tuple[Batch, list[Call], list[tuple[Call, SerializationError]]]:
    """Pack calls of one work.

    Returns:
        The batch, its calls in the order of its items, and the calls that cannot travel, with the reason.
    """
    surroundings = _Surroundings()
    items: list[tuple[int, Pickled]] = []
    kept: list[Call] = []
    refused: list[tuple[Call, SerializationError]] = []
    for call in calls:
        content = (call.args, call.kwargs, call.run.own_facts(), call.attempt)
        try:
            item = (surroundings.index(call), pickling.dumps(content))
        except Exception as error:
            refusal = _refused_call(call)
            refusal.__cause__ = error
            refused.append((call, refusal))
            continue
        items.append(item)
        kept.append(call)
    level = logging.getLogger("penstock").getEffectiveLevel()
    return Batch(digest, ORIGIN, level, surroundings.pickled, items), kept, refused


class _Surroundings:
    """What calls of a batch have in common, each distinct pair of context variables and facts once.

    The calls of a map have one context and one object with facts between them, so there is little to compare.
    """

    def __init__(self) -> None:
        self.pickled: list[Pickled] = []
        self._known: dict[tuple[int, int], int] = {}
        self._distinct: dict[tuple[Any, ...], int] = {}
        # Keeps the values alive, and with them their ids.
        self._values: list[Any] = []

    def index(self, call: Call) -> int:
        facts = call.run.shared_facts()
        key = (id(call.context), id(facts))
        index = self._known.get(key)
        if index is None:
            self._values += (call.context, facts)
            index = self._known[key] = self._add(variables.travelling(call.context), facts)
        return index

    def _add(self, found: dict[variables.Name, Any], facts: Mapping[str, Any]) -> int:
        key = (id(facts), *[(name, id(value)) for name, value in found.items()])
        index = self._distinct.get(key)
        if index is None:
            index = self._distinct[key] = len(self.pickled)
            self._values.append(found)
            self.pickled.append(_pack_surroundings(found, facts))
        return index


def _pack_surroundings(found: dict[variables.Name, Any], facts: Mapping[str, Any]) -> Pickled:
    """Pickle both; variables that cannot travel stay at home, like a request or an open session."""
    if "flow_parameters" in facts:
        facts = {**facts, "flow_parameters": parameters.pack(facts["flow_parameters"])}
    try:
        return pickling.dumps((found, facts))
    except Exception:
        travelling = {name: value for name, value in found.items() if pickling.travels(value)}
        return pickling.dumps((travelling, facts))


def unpack_attempt(work: Work, item: tuple[int, Pickled], surroundings: Sequence[Surroundings]) -> Attempt:
    """Make one call of a batch again.

    Args:
        work: The batch's work.
        item: One of the batch's items.
        surroundings: The batch's surroundings, unpickled.
    """
    index, pickled = item
    args, kwargs, own, attempt = pickling.loads(pickled)
    found, shared = surroundings[index]
    return Attempt(work, args, kwargs, {**shared, **own}, attempt, found)


# --- the outcomes -------------------------------------------------------------------------------------------------


def pack_outcome(outcome: Outcome, task: str) -> PackedOutcome:
    """Pack an outcome on the worker; a value that cannot travel becomes an error that says so."""
    value, error = None, outcome.error
    if error is None:
        try:
            value = pickling.dumps(outcome.value)
        except Exception as reason:
            error = SerializationError(
                f"task {task!r} ran, but its result cannot be brought home from {outcome.worker}: "
                f"{pickling.explain(outcome.value, 'result')}. Return plain data, or where you stored it."
            )
            error.__cause__ = reason
    packed = None if error is None else pack_error(error, outcome.worker)
    logs, children = outcome.logs, outcome.children
    return PackedOutcome(value, packed, outcome.started, outcome.ended, outcome.worker, logs, children)


def unpack_outcome(packed: PackedOutcome, task: str) -> Outcome:
    """Make the outcome again on the driver; a value that cannot be unpickled becomes an error that says so."""
    value, error = None, None
    if packed.error is not None:
        error = unpack_error(packed.error)
    elif packed.value is not None:
        try:
            value = pickling.loads(packed.value)
        except Exception as reason:
            error = SerializationError(
                f"task {task!r} ran on {packed.worker}, but its result cannot be unpickled here: "
                f"{type(reason).__name__}: {reason}"
            )
            error.__cause__ = reason
    return Outcome(
        value=value,
        error=error,
        started=packed.started,
        ended=packed.ended,
        worker=packed.worker,
        logs=packed.logs,
        children=packed.children,
    )


# --- refusals -----------------------------------------------------------------------------------------------------


def _refused_work(work: Work) -> SerializationError:
    parts = [(name, value) for name, value in work.constants.items() if not pickling.travels(value)]
    if parts:
        name, value = parts[0]
        what = f"argument {pickling.explain(value, name)}"
    else:
        what = f"function {pickling.explain(work.function, work.name)}"
    return _refusal(work, what)


def _refused_call(call: Call) -> SerializationError:
    for name, value in _named_arguments(call):
        if not pickling.travels(value):
            return _refusal(call.work, f"argument {pickling.explain(value, name)}")
    return _refusal(call.work, "the facts of its run: " + pickling.explain(call.run.describe(), "run"))


def _refusal(work: Work, what: str) -> SerializationError:
    return SerializationError(
        f"task {work.name!r} was not sent to a worker: {what}. "
        "Make the object inside the task, or pass what it is made from (a path, a URL, a configuration)."
    )


def _named_arguments(call: Call) -> list[tuple[str, Any]]:
    try:
        bound = inspect.signature(call.work.function).bind_partial(*call.args, **call.kwargs)
    except (TypeError, ValueError):
        return [*((f"args[{index}]", value) for index, value in enumerate(call.args)), *call.kwargs.items()]
    return list(bound.arguments.items())
