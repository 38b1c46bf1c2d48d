"""Messages over a stream socket: a pickle and the large buffers that were left out of it.

A message is the number of its parts, their lengths, and the parts. The worker's end blocks. The driver's end never
does, in neither direction: one worker that is stopped in the middle of a message must not hold up the others.
"""

from __future__ import annotations

import itertools
import pickle
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ("BlockingChannel", "NonBlockingChannel", "encode")

_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")

# One read takes what a burst of small outcomes leaves in a socket's buffer (benchmarks/wire.py).
_READ = 256 * 1024


def encode(message: Any) -> list[Any]:
    """Turn a message into buffers to be written one after the other."""
    parts: list[Any] = [b""]
    parts[0] = pickle.dumps(message, 5, buffer_callback=lambda buffer: parts.append(buffer.raw()))
    lengths = b"".join([_LENGTH.pack(len(part)) for part in parts])
    head = _COUNT.pack(len(parts)) + lengths + parts[0]
    return [head, *parts[1:]]


class BlockingChannel:
    """The worker's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: Any) -> None:
        """Write a whole message."""
        for buffer in encode(message):
            self._socket.sendall(buffer)

    def receive(self) -> Any:
        """Read a whole message.

        Raises:
            EOFError: If the driver is gone.
        """
        (count,) = _COUNT.unpack(self._read(_COUNT.size))
        lengths = struct.unpack(f"<{count}Q", self._read(count * _LENGTH.size))
        head, *buffers = [self._read(length) for length in lengths]
        return pickle.loads(head, buffers=buffers)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._socket.recv_into(view)
            if count == 0:
                raise EOFError
            view = view[count:]
        return data


class NonBlockingChannel:
    """The driver's end; whoever uses it holds the pool's lock."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._outbox: deque[memoryview] = deque()
        self._inbox = b""
        self._large: _Large | None = None

    @property
    def pending(self) -> bool:
        """Whether there is something left to write."""
        return bool(self._outbox)

    def send(self, message: Any) -> None:
        """Write as much of a message as goes, and keep the rest for `flush`."""
        self._outbox.extend(memoryview(buffer).cast("B") for buffer in encode(message))
        self.flush()

    def flush(self) -> None:
        """Write as much as goes; to a worker that is gone, nothing."""
        try:
            while self._outbox:
                view = self._outbox[0]
                count = self.socket.send(view)
                if count < len(view):
                    self._outbox[0] = view[count:]
                else:
                    self._outbox.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._outbox.clear()

    def receive(self) -> tuple[list[Any], bool]:
        """Read what has come.

        Returns:
            The messages that are complete, and whether the worker's end is still open.
        """
        messages: list[Any] = []
        is_open = self._read_into(messages)
        return messages, is_open

    def drain(self) -> list[Any]:
        """Read everything that a worker which is gone has left."""
        messages: list[Any] = []
        before = -1
        while self._read_into(messages) and before != len(messages):
            before = len(messages)
        return messages

    def _read_into(self, messages: list[Any]) -> bool:
        try:
            if self._large is not None:
                count = self.socket.recv_into(self._large.rest)
            else:
                data = self.socket.recv(_READ)
                count = len(data)
                self._inbox += data  # empty but for the rest of a message, so this copies little
        except BlockingIOError:
            return True
        except OSError:
            return False
        if self._large is not None:
            self._large.rest = self._large.rest[count:]
        messages.extend(self._complete())
        return count > 0

    def _complete(self) -> Iterator[Any]:
        if self._large is not None:
            if self._large.rest:
                return
            yield _decode(_split(memoryview(self._large.data), self._large.lengths))
            self._large = None
        view, start = memoryview(self._inbox), 0
        while (found := _next(view, start)) is not None:
            lengths, begin, end = found
            if end > len(view):
                break
            # Bytes cannot be written to; whoever gets an array expects that it can.
            head, *buffers = _split(view[begin:end], lengths)
            yield _decode([head, *map(bytearray, buffers)])
            start = end
        self._inbox = self._inbox[start:]
        self._expect_large()

    def _expect_large(self) -> None:
        """Give a message that is much longer than a read its own memory, to be filled in place."""
        found = _next(memoryview(self._inbox), 0)
        if found is None or found[2] - found[1] <= _READ:
            return
        lengths, begin, end = found
        data = bytearray(end - begin)
        have = len(self._inbox) - begin
        data[:have] = self._inbox[begin:]
        self._inbox = b""
        self._large = _Large(data, lengths, memoryview(data)[have:])


class _Large:
    def __init__(self, data: bytearray, lengths: tuple[int, ...], rest: memoryview) -> None:
        self.data = data
        self.lengths = lengths
        self.rest = rest


def _next(view: memoryview, start: int) -> tuple[tuple[int, ...], int, int] | None:
    """The lengths of the parts of the message that begins at ``start``, and where its parts begin and end."""
    if len(view) - start < _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(view, start)
    begin = start + _COUNT.size + count * _LENGTH.size
    if len(view) < begin:
        return None
    lengths = struct.unpack_from(f"<{count}Q", view, start + _COUNT.size)
    return lengths, begin, begin + sum(lengths)


def _split(view: memoryview, lengths: tuple[int, ...]) -> list[memoryview]:
    if len(lengths) == 1:
        return [view]
    ends = list(itertools.accumulate(lengths))
    return [view[end - length : end] for end, length in zip(ends, lengths)]


def _decode(parts: Sequence[Any]) -> Any:
    return pickle.loads(parts[0], buffers=parts[1:])
