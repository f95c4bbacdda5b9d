"""Bytes of a file to a socket by `sendfile`, without passing through Python (the ASGI extension
`http.response.zerocopysend`: {"type", "file": descriptor, "offset", "count", "more_body"}).

The descriptor stays the caller's. Reading a disk blocks, so it is done in threads; waiting for the client is done in
the loop. While a file is sent nothing else is written to the connection, and what the client took is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
from concurrent.futures import Executor
from typing import Protocol

EXTENSION = "http.response.zerocopysend"
AT_ONCE = 8 << 20  # bytes of one system call
TURN = 0.1  # seconds that one file may keep a thread while others wait
PATIENCE = 5  # milliseconds in which a fast client takes what lies in the socket's buffer


def can_sendfile() -> bool:
    """Whether this platform has what is needed."""
    return hasattr(os, "sendfile") and hasattr(select, "poll")


class Lost(Exception):  # noqa: N818  (an outcome, not a fault)
    """The client is gone, or the file has no more bytes: the answer can't be finished."""


class Connection(Protocol):
    """What sending needs of a connection."""

    def taken(self, count: int) -> None:
        """So many bytes more went to the client."""

    async def flushed(self) -> None:
        """Return when everything written before has left; raises Lost."""

    async def writable(self, fd: int) -> None:
        """Return when the socket takes more; raises Lost."""


async def send_file(
    connection: Connection, sock: socket.socket, threads: Executor, *, file: int, offset: int, count: int
) -> None:
    """Send exactly `count` bytes of `file`, from `offset`. Raises Lost."""
    await connection.flushed()
    loop = asyncio.get_running_loop()
    try:
        # of its own: the transport watches the socket's descriptor, and may close it while a thread sends
        fd = os.dup(sock.fileno())
    except OSError as error:
        raise Lost(str(error)) from None
    try:
        while count:
            turn = asyncio.ensure_future(loop.run_in_executor(threads, push, fd, file, offset, count))
            try:
                sent = await asyncio.shield(turn)
            except asyncio.CancelledError:  # neither descriptor may be closed under a thread
                with contextlib.suppress(Exception):
                    await asyncio.wait([turn])
                    _ = turn.cancelled() or turn.exception()  # looked at: else asyncio logs that the client was gone
                raise
            connection.taken(sent)
            offset, count = offset + sent, count - sent
            if count:
                await connection.writable(fd)
    finally:
        os.close(fd)


def push(fd: int, file: int, offset: int, count: int) -> int:
    """As many bytes as the client takes now, at most for a TURN. Returns how many; raises Lost."""
    sent = 0
    until = time.monotonic() + TURN
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    while sent < count and time.monotonic() < until:
        try:
            now = os.sendfile(fd, file, offset + sent, min(count - sent, AT_ONCE))
        except BlockingIOError:
            if not poll.poll(PATIENCE):
                break
            continue
        except OSError as error:  # reset by the client, or a disk that can't be read: the same for what was promised
            raise Lost(str(error)) from None
        if now == 0:
            raise Lost("the file has become shorter")
        sent += now
    return sent
