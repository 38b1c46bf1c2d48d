"""A network that fails on command: it stands between a history or a store and its server."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ("Network", "network")


class Network:
    """Carries bytes between clients and the server.

    Attributes:
        port: Where clients connect to.
        cut_request: How many more pieces of what clients send get through until a connection is cut instead.
        cut_answer: The same for what the server sends.
        hides_cuts: Whether the server is not told of a cut, and holds on to its end.
        rewrite: What becomes of what the server says.
        tls: What encrypts the way to the clients, who have to ask for it as PostgreSQL's do.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.cut_request: int | None = None
        self.cut_answer: int | None = None
        self.hides_cuts = False
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self.tls: ssl.SSLContext | None = None
        self._server_port = server_port
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._over = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    def url(self, url: str) -> str:
        """A server's URL, by way of this network."""
        return url.replace(f":{self._server_port}", f":{self.port}")

    def run(self) -> None:
        """Carry until `stop`."""
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def wait(self) -> None:
        """Wait until clients can connect."""
        self._listening.wait()

    def stop(self) -> None:
        """Cut all connections, and end."""
        self._loop.call_soon_threadsafe(self._over.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._over.wait()
        server.close()
        carriers = asyncio.all_tasks() - {asyncio.current_task()}
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*carriers, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, server_writer}
        try:
            await self._encrypt(reader, writer)
        except (OSError, EOFError):
            server_writer.transport.abort()  # the client does not trust it
            return
        await asyncio.wait(
            [
                asyncio.ensure_future(self._carry(reader, server_writer, self._request)),
                asyncio.ensure_future(self._carry(server_reader, writer, self._answer)),
            ],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for end in (writer,) if self.hides_cuts else (writer, server_writer):
            end.transport.abort()
            self._writers.remove(end)

    async def _encrypt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what a server does that is asked whether it speaks TLS; the question has eight bytes."""
        if self.tls is not None:
            await reader.readexactly(8)
            writer.write(b"S")
            await writer.start_tls(self.tls)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, let: Callable[[bytes], bytes | None]
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                changed = let(data)
                if changed is None:
                    return
                writer.write(changed)
                await writer.drain()
        except ConnectionError:
            pass  # one end is gone, and so the other goes

    def _request(self, data: bytes) -> bytes | None:
        cut, self.cut_request = _counted(self.cut_request)
        return None if cut else data

    def _answer(self, data: bytes) -> bytes | None:
        cut, self.cut_answer = _counted(self.cut_answer)
        return None if cut else self.rewrite(data)


def _counted(left: int | None) -> tuple[bool, int | None]:
    """Whether it is time to cut, and what to count down from next."""
    return (left == 0, left - 1 if left else None)


@contextmanager
def network(server_port: int) -> Iterator[Network]:
    """A network to a server for the block."""
    carrier = Network(server_port)
    thread = threading.Thread(target=carrier.run, name="network")
    thread.start()
    carrier.wait()
    try:
        yield carrier
    finally:
        carrier.stop()
        thread.join()
