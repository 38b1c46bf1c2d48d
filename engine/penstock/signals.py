"""Something that happens once, and the ways to wait for it.

A signal works in every world: callbacks run in whichever thread brings the news, a synchronous caller blocks, and a
coroutine awaits. Whoever completes a signal first says so and then takes the callbacks; whoever adds one first adds it
and then asks whether it is too late. So each callback is taken by one of the two, and no lock is held while it runs.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (coroutines wait for signals)
import threading  # noqa: TID251 (callbacks are added and taken by different threads)
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.context import current_run
from penstock.edges import edges, resting
from penstock.per_loop import PerLoop

if TYPE_CHECKING:
    from penstock.records import Run

__all__ = ("Signal", "call_then", "post", "reraise", "suspend", "wait_in_loop")

_LOCKS = tuple(threading.Lock() for _ in range(64))
"""Each signal uses one of them. With a single one all threads of a fan-out would meet there, and a thread that is woken
with that lock in its hand and waits for the interpreter's holds up all others: see `dispatch.Dispatcher`."""


class Signal:
    """Something that happens once.

    Attributes:
        done: Whether it has happened.
        value: What it brought.
        run: The run whose progress it is, if it is one's.
        loop: The event loop that has to turn for it to happen, if any.
    """

    # Most signals get one callback, and a container for it would be one object more for the garbage collector in
    # each of a hundred thousand tasks: the slot holds None, a callback, or several of them.
    __slots__ = ("_waiting", "done", "loop", "run", "value")

    def __init__(self, run: Run | None = None) -> None:
        self.done: bool = False
        self.value: Any = None
        self.run: Run | None = run
        self.loop: asyncio.AbstractEventLoop | None = None
        self._waiting: Any = None

    needs_all = True
    """Whether it takes the end of all `runs` for the signal to happen, or only of one."""

    def runs(self) -> Iterable[Run]:
        """The runs that have to end for the signal to happen."""
        return () if self.run is None else (self.run,)

    def complete(self, value: Any = None) -> None:
        """Let it happen, and run the callbacks here and now."""
        self.value = value
        self.done = True
        if self._waiting is not None:
            self._drain()

    def on_done(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback(self)`` when it happens, in that thread; at once if it has happened."""
        with _LOCKS[id(self) >> 6 & 63]:
            waiting = self._waiting
            if waiting is None:
                self._waiting = callback
            elif type(waiting) is _Callbacks:
                waiting[callback] = None
            else:
                self._waiting = _Callbacks({waiting: None, callback: None})
        if self.done:
            self._drain()

    def forget(self, callback: Callable[[Any], object]) -> bool:
        """Take a callback back; False if it has been called, or is about to be."""
        with _LOCKS[id(self) >> 6 & 63]:
            waiting = self._waiting
            if waiting == callback:
                self._waiting = None
            elif type(waiting) is not _Callbacks or callback not in waiting:
                return False
            else:
                del waiting[callback]
        return True

    def _drain(self) -> None:
        with _LOCKS[id(self) >> 6 & 63]:
            waiting, self._waiting = self._waiting, None
        if type(waiting) is _Callbacks:
            for callback in waiting:
                callback(self)
        elif waiting is not None:
            waiting(self)


class _Callbacks(dict[Callable[[Any], object], None]):
    """Several callbacks of one signal, in order; ten thousand runs may wait for one, and take their callbacks back."""

    __slots__ = ()


async def wait_in_loop(signal: Signal) -> None:
    """Wait for a signal in a coroutine, and let the run whose coroutine it is rest meanwhile."""
    with resting(current_run.get(), signal):
        await suspend(signal)


async def suspend(signal: Signal) -> None:
    """Wait for a signal on a loop, whichever thread it comes from."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: Signal) -> None:
        if asyncio._get_running_loop() is loop:
            _set(waiter)
        else:
            post(loop, lambda: _set(waiter))

    signal.on_done(wake)
    try:
        with edges(signal, asyncio.current_task()):
            await waiter
    finally:
        signal.forget(wake)


def call_then(function: Callable[[], Any], done: Signal) -> None:
    """Call something, and complete a signal with a function that gives its value or raises its error."""
    try:
        value = function()
    except BaseException as error:
        done.complete(partial(reraise, error))
    else:
        done.complete(lambda: value)


def reraise(error: BaseException) -> Any:
    """Raise it, where only a function is wanted."""
    raise error


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Mailbox:
    """What other threads want done on a loop; they wake it once for many letters."""

    __slots__ = ("letters", "woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.letters: deque[Callable[[], None]] = deque()
        self.woken = False

    def empty(self) -> None:
        # The flag falls before the first letter is read: whoever posts later wakes the loop again, if need be once
        # too often.
        self.woken = False
        while self.letters:
            self.letters.popleft()()


_mailboxes = PerLoop(_Mailbox)


def post(loop: asyncio.AbstractEventLoop, letter: Callable[[], None]) -> None:
    """Call ``letter()`` on a loop from another thread; if the loop is gone, nobody waits for it any more.

    `asyncio.AbstractEventLoop.call_soon_threadsafe` writes to a pipe on every call, some 20 µs. Here the first letter
    of a batch does so, and the loop empties the box (benchmarks/fanout.py, the rows of threads).
    """
    box = _mailboxes.of(loop)
    box.letters.append(letter)
    if not box.woken:
        box.woken = True
        try:
            loop.call_soon_threadsafe(box.empty)
        except RuntimeError:
            box.letters.clear()  # the loop was closed: whoever waited there is gone
