"""Whether Ray's head is still there: the process, GCS, that knows of all others.

Ray ends every process that has lost its head for a minute, ours included, at once and with status 1: no ``finally``
runs, no state is recorded. A Ray of our own is told to wait a day, which somebody else's cluster, or a Ray that was
imported before, is not. So somebody has to notice sooner, and leave Ray.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (runs on the session's own loop)

__all__ = ("until_lost",)

_LOOKS = 4

_MOST = 30.0
"""Seconds; Ray's own patience is 60 (its setting ``gcs_rpc_server_reconnect_timeout_s``)."""


async def until_lost(address: str, lease: float) -> None:
    """Return when nobody has listened at the address for as long as the lease, or for half of Ray's patience.

    Args:
        address: The head's host and port.
        lease: Seconds.
    """
    host, _, port = address.rpartition(":")
    pause, missed = min(lease, _MOST) / _LOOKS, 0
    while missed < _LOOKS:
        look = asyncio.ensure_future(asyncio.sleep(pause))
        missed = 0 if await _listens(host.strip("[]"), int(port), pause) else missed + 1
        await look


async def _listens(host: str, port: int, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except OSError:  # refused, or out of time
        return False
    transport.close()
    return True
