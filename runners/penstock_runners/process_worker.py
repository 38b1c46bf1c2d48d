"""The program of one worker process of the process runner."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading  # noqa: TID251 (the thread that ends the worker with its parent)
from collections.abc import Callable
from typing import Any, NamedTuple

from penstock.ports import LogLine
from penstock_runners import pickling, worker
from penstock_runners.channel import BlockingChannel
from penstock_runners.failures import PackedError, pack_error
from penstock_runners.slot import Slot
from penstock_runners.wire import Batch, PackedOutcome, PackedWork

__all__ = ("DONE", "FAILED", "LINE", "OUTCOME", "READY", "Order", "Setup", "main")

# What the worker says, as the first item of a tuple. The last outcome of an order says as well that it is done: a
# report that submits the next call finds the worker idle.
READY, FAILED, LINE, OUTCOME, DONE = range(5)

_WATCH = 0.5  # seconds between two looks at who the parent is


class Setup(NamedTuple):
    """What a worker is told first."""

    argv: list[str]
    initializer: pickling.Pickled


class Order(NamedTuple):
    """A batch to run, with its number, and whether its log lines are wanted at once."""

    number: int
    work: PackedWork
    batch: Batch
    live: bool


def main(connection: int, slot: int, parent: int) -> None:
    """Serve until told to stop; end at once if the parent does."""
    sock = socket.socket(fileno=connection)
    leaving = threading.Event()
    threading.Thread(target=_die_with_parent, args=(sock, parent, leaving), name="penstock-parent", daemon=True).start()
    channel = BlockingChannel(sock)
    try:
        _serve(channel, Slot(slot))
        leaving.set()
        sock.detach()  # left open until the process ends, exit handlers included: that is what the driver waits for
    except (EOFError, ConnectionError):
        _end_group()


def _serve(channel: BlockingChannel, slot: Slot) -> None:
    setup: Setup = channel.receive()
    sys.argv[:] = setup.argv
    failure = _initialize(setup)
    if failure is not None:
        channel.send((FAILED, failure))
        return
    channel.send((READY,))
    sending = threading.Lock()
    while (order := channel.receive()) is not None:
        _obey(order, channel, slot, sending)


def _initialize(setup: Setup) -> PackedError | None:
    try:
        initializer, initargs = pickling.loads(setup.initializer)
        if initializer is not None:
            initializer(*initargs)
    except BaseException as error:  # whatever it is, the driver must hear of it
        return pack_error(error, worker.worker_name())
    return None


def _obey(order: Order, channel: BlockingChannel, slot: Slot, sending: threading.Lock) -> None:
    def entering(index: int) -> bool:
        if not worker.settled(timeout=1.0):
            os._exit(0)  # a call that ran out of time still blocks the loop: only a new process is rid of it
        return slot.enter(order.number, index)

    last, said = len(order.batch.items) - 1, False

    def emit(index: int, packed: PackedOutcome) -> None:
        nonlocal said
        said = index == last
        with sending:
            channel.send((OUTCOME, index, tuple(packed), said))

    def send(index: int, line: LogLine) -> None:
        with sending:
            channel.send((LINE, index, line))

    site = worker.Site(stops_calls=True, entering=entering)
    live: Callable[[int, LogLine], None] | None = send if order.live else None
    worker.run_batch(order.batch, order.work, emit, site, live)
    if not said:  # the last call was left out
        with sending:
            channel.send((DONE,))


def _die_with_parent(sock: socket.socket, parent: int, leaving: threading.Event) -> None:
    """End this process, and what it started, when the driver's end of the socket closes.

    A process that the driver forked may hold a copy of that end open, so the parent's id is looked at as well.
    """
    poller: Any = select.poll()
    poller.register(sock, select.POLLHUP)
    while not poller.poll(_WATCH * 1000) and os.getppid() == parent:
        pass
    if not leaving.is_set():
        _end_group()


def _end_group() -> None:
    """Kill this process and its children: the driver made it the leader of a group of its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
