"""The program of one worker process of the process runner."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading  # noqa: TID251 (the thread that ends the worker with its parent)
from functools import partial
from typing import Any, NamedTuple

from penstock_runners import pickling, worker
from penstock_runners.channel import BlockingChannel
from penstock_runners.failures import PackedError, pack_error
from penstock_runners.ring import Ring
from penstock_runners.slot import Slot
from penstock_runners.wire import Batch, PackedOutcome, PackedWork

__all__ = ("DONE", "FAILED", "LINE", "OUTCOME", "READY", "WAKE", "Order", "Setup", "main", "open_message")

# What the worker says, as the first item of a tuple. The last outcome of an order says as well that it is done: a
# report that submits the next call finds the worker idle.
READY, FAILED, LINE, OUTCOME, DONE, WAKE = range(6)

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
    while (order := channel.receive()) is not None:
        _obey(order, _Home(channel, slot.ring), slot)


def _initialize(setup: Setup) -> PackedError | None:
    try:
        initializer, initargs = pickling.loads(setup.initializer)
        if initializer is not None:
            initializer(*initargs)
    except BaseException as error:  # whatever it is, the driver must hear of it
        return pack_error(error, worker.worker_name())
    return None


class _Home:
    """The way home for what comes of one order.

    Small outcomes go through the ring, until something has to go over the socket, a log line or a large value; then so
    does the rest, for what is on two ways at once can arrive in any order.
    """

    def __init__(self, channel: BlockingChannel, ring: Ring) -> None:
        self._channel = channel
        self._ring = ring
        self._by_socket = False
        self._sending = threading.Lock()

    def say(self, *message: Any) -> None:
        """Send something over the socket."""
        with self._sending:
            self._by_socket = True
            self._channel.send(message)

    def bring(self, index: int, packed: PackedOutcome, is_last: bool) -> None:
        """Bring an outcome home."""
        content = tuple(packed)
        with self._sending:
            if not self._by_socket and type(packed.value) is not pickling.Packet:
                message = _HEADER.pack(index, is_last) + pickle.dumps(content, protocol=5)
                if self._ring.put(message):
                    if self._ring.must_wake(urgent=is_last):
                        self._channel.send((WAKE,))
                    return
        self.say(OUTCOME, index, is_last, content)


_HEADER = struct.Struct("<I?")


def open_message(message: bytes) -> tuple[int, bool, bytes]:
    """What `_Home.bring` put into the ring: the index, whether it is the last, and the outcome, still pickled."""
    index, is_last = _HEADER.unpack_from(message)
    return index, is_last, message[_HEADER.size :]


def _obey(order: Order, home: _Home, slot: Slot) -> None:
    def entering(index: int) -> bool:
        if not worker.settled(timeout=1.0):
            os._exit(0)  # a call that ran out of time still blocks the loop: only a new process is rid of it
        return slot.enter(order.number, index)

    last, said = len(order.batch.items) - 1, False

    def emit(index: int, packed: PackedOutcome) -> None:
        nonlocal said
        said = index == last
        home.bring(index, packed, said)

    site = worker.Site(stops_calls=True, entering=entering)
    worker.run_batch(order.batch, order.work, emit, site, partial(home.say, LINE) if order.live else None)
    if not said:  # the last call was left out
        home.say(DONE)


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
