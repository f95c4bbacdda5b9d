"""One HTTP/1.1 connection: uvicorn's, and what it lacks: bounds on heads, on slow clients, on how many there are, and
files by sendfile. Decides nothing about what is answered.

Timing rests on `sweep`, which the server calls about once a second: it judges every connection by the clock it is
given and cuts off who doesn't keep up. Sources: RFC 9112 (HTTP/1.1), RFC 6585 (431).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from samara.registry.service.wire_files import EXTENSION, Lost, can_sendfile, send_file
from samara.registry.service.wire_limits import Crowd, Pace, WireLimits

CONNECTION = "samara.connection"  # in a scope's extensions: whose request it is
_SILENT = logging.getLogger("samara.wire")  # what clients do wrong is not worth a line each
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_SILENT.setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Wire:
    """What all connections of one server share. `threads` read files."""

    limits: WireLimits
    threads: Executor
    crowd: Crowd = field(init=False)
    open: set[WireProtocol] = field(default_factory=set)
    cut_off: int = 0  # connections that were too slow
    turned_away: int = 0  # connections that were too many

    def __post_init__(self) -> None:
        self.crowd = Crowd(self.limits)

    def sweep(self, now: float) -> None:
        """Cut off every connection that doesn't keep up. `now`: seconds of a clock that never goes back."""
        for connection in tuple(self.open):
            if not connection.keeps_up(now):
                self.cut_off += 1
                connection.cut()


class _Phase(Enum):
    RESTING = "between requests"
    HEAD = "its line and headers come"
    BODY = "its body comes"
    ANSWER = "it is being answered"


class _Transport(asyncio.Transport):
    """A transport that counts what is written to it."""

    def __init__(self, inner: asyncio.Transport) -> None:
        super().__init__()
        self.inner = inner
        self.written = 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += len(data)
        self.inner.write(data)

    def taken(self) -> int:
        """Bytes that the kernel has taken."""
        return self.written - self.inner.get_write_buffer_size()

    def close(self) -> None:
        self.inner.close()

    def abort(self) -> None:
        self.inner.abort()

    def is_closing(self) -> bool:
        return self.inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        self.inner.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self.inner.get_write_buffer_size()


class WireProtocol(HttpToolsProtocol):
    """A connection. Made by `protocol_for`."""

    wire: ClassVar[Wire]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _SILENT
        self.access_log = False
        self._address: str | None = None  # while it is counted in the crowd
        self._phase = _Phase.RESTING
        self._head_bytes = 0
        self._head_since = 0.0  # when it began, or the rest before it
        self._answered_at = 0.0
        self._refusal: tuple[int, str] | None = None
        self._body_bytes = 0
        self._body_ended = True
        self._in_pace = Pace(0.0, 0)
        self._out_pace = Pace(0.0, 0)
        self._sent = 0  # bytes of files
        self._sends_file = False
        self._is_lost = False
        self._waiter: asyncio.Future[None] | None = None

    # -- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        counted = _Transport(transport)
        super().connection_made(counted)
        self.wire.open.add(self)
        now = time.monotonic()
        self._head_since, self._phase = now, _Phase.HEAD
        self._out_pace = Pace(now, 0)
        address = self.client[0] if self.client else ""
        if not self.wire.crowd.enter(address):
            self.wire.turned_away += 1
            self._refuse(503, "Too many connections")
            return
        self._address = address
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):  # a client that vanished without a word is noticed at last
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # asyncio does so for sockets that say they are TCP; an accepted one doesn't. Head and body of an answer are
            # two writes: without it the second waits 40 ms for the client's acknowledgement of the first.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self.wire.open.discard(self)
        if self._address is not None:
            self.wire.crowd.leave(self._address)
            self._address = None
        self._wake()
        for cycle, _ in self.pipeline:  # uvicorn tells the newest request only
            cycle.disconnected = True
        super().connection_lost(exc)

    def cut(self) -> None:
        """End the connection at once."""
        self._is_lost = True
        self._wake()
        _inner(self.transport).abort()

    def keeps_up(self, now: float) -> bool:
        """Whether the client does its part by `now`."""
        if self._is_lost:
            return True
        limits = self.wire.limits
        transport = _counted(self.transport)
        taken = transport.taken() + self._sent
        if transport.get_write_buffer_size() or self._waiter is not None:
            # the kernel takes more only when a good part of its buffer, megabytes, is free again: what counts is
            # what the client has taken from there
            return self._out_pace.keeps_up(taken - unacknowledged(transport), now, limits)
        self._out_pace = Pace(now, taken - unacknowledged(transport))
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self._phase is _Phase.RESTING:
            return now - self._head_since < limits.keep_alive
        if self._phase is _Phase.HEAD:
            if is_answering:  # the head of a request that waits for the one before it
                self._head_since = now
            return now - self._head_since < limits.head_time
        if not self._body_ended and not is_answering:
            return now - self._answered_at < limits.drain_time
        if self._body_ended or self.flow.read_paused:
            self._in_pace = Pace(now, self._body_bytes)
            return True
        return self._in_pace.keeps_up(self._body_bytes, now, limits)

    # -- requests ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_lost or self.transport.is_closing():
            return
        if self._phase is _Phase.RESTING:
            self._phase, self._head_since = _Phase.HEAD, time.monotonic()
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for a request that can't be parsed, or that one of the bounds below refused."""
        self._refuse(*(self._refusal or (400, msg)))

    def _refuse(self, status: int, why: str) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # an answer is under way: not one byte that isn't its own may come into it
            self.cut()
            return
        body = b'{"type":"about:blank","title":"%s","status":%d}' % (why.encode("ascii", "replace"), status)
        head = (b"content-type: application/problem+json\r\n", b"content-length: %d\r\n" % len(body))
        self.transport.write(b"".join([STATUS_LINE[status], *head, b"connection: close\r\n\r\n", body]))
        self.transport.close()

    def _bound(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > self.wire.limits.head_bytes:
            self._stop(431, "Request head too large")

    def _stop(self, status: int, why: str) -> None:
        self._refusal = self._refusal or (status, why)
        raise ValueError(why)  # httptools makes a parser error of it

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= self.wire.limits.pipelined:
            self._stop(400, "Too many requests at once")
        if self._phase is not _Phase.HEAD:
            self._phase, self._head_since = _Phase.HEAD, time.monotonic()
        self._head_bytes = 0
        super().on_message_begin()
        extensions: dict[str, Any] = {CONNECTION: self}
        if can_sendfile() and self.scheme == "http":
            extensions[EXTENSION] = {}
        self.scope["extensions"] = extensions

    def on_url(self, url: bytes) -> None:
        self._bound(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _Phase.HEAD:
            self._stop(400, "Trailers are not taken")  # uvicorn would put them among the headers
        self._bound(len(name) + len(value) + 4)
        if len(self.headers) >= self.wire.limits.head_count:
            self._stop(431, "Too many header fields")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._phase = _Phase.BODY
        self._body_ended = False
        self._in_pace = Pace(time.monotonic(), self._body_bytes)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_ended = True
        self._phase = _Phase.ANSWER
        if self.cycle.response_complete:  # the answer came before the body's end (413, 415 …)
            self._rest()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._answered_at = time.monotonic()
        if self._phase is _Phase.ANSWER and not self.pipeline:
            self._rest()
        super().on_response_complete()

    def _rest(self) -> None:
        self._phase, self._head_since = _Phase.RESTING, time.monotonic()

    # -- files (see wire_files.Connection) -----------------------------------------------------------------------

    async def send_file(self, cycle: Any, message: dict[str, Any]) -> None:
        """Answer `http.response.zerocopysend` for one request. Raises ConnectionResetError when the client is gone.

        If the file can't be sent to its promised end the connection is cut: the client notices by Content-Length.
        """
        count = int(message["count"])
        if self._is_lost or cycle.disconnected:
            raise ConnectionResetError("the client is gone")
        if not cycle.response_started or cycle.response_complete or cycle.chunked_encoding:
            raise RuntimeError("a file needs an answer with Content-Length")
        if count > cycle.expected_content_length:
            raise RuntimeError("Response content longer than Content-Length")
        sock = self.transport.get_extra_info("socket")
        self._sends_file = True
        try:
            await send_file(
                self, sock, self.wire.threads, file=message["file"], offset=message["offset"], count=count
            )  # fmt: skip
        except Lost as error:
            self.cut()
            raise ConnectionResetError(str(error)) from None
        finally:
            self._sends_file = False
        cycle.expected_content_length -= count

    def taken(self, count: int) -> None:
        """So many bytes of a file more went to the client."""
        self._sent += count

    async def flushed(self) -> None:
        """Return when everything that was written has left. Raises Lost."""
        inner = _inner(self.transport)
        if inner.get_write_buffer_size():
            before = inner.get_write_buffer_limits()
            inner.set_write_buffer_limits(high=0)
            try:
                while inner.get_write_buffer_size() and not self._is_lost:
                    await self._wait()
            finally:
                inner.set_write_buffer_limits(low=before[0], high=before[1])
        if self._is_lost:
            raise Lost("the client is gone")

    async def writable(self, fd: int) -> None:
        """Return when the socket takes more. Raises Lost."""
        self.loop.add_writer(fd, self._wake)
        try:
            await self._wait()
        finally:
            self.loop.remove_writer(fd)
        if self._is_lost:
            raise Lost("the client is gone")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def protocol_for(wire: Wire) -> type[WireProtocol]:
    """The class of connections that share `wire`, as uvicorn wants it."""
    return type("BoundWireProtocol", (WireProtocol,), {"wire": wire})


class FileSending:
    """Around an application on this server: takes `http.response.zerocopysend` to the connection it is for."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        connection = scope.get("extensions", {}).pop(CONNECTION, None)
        if connection is None:
            await self._app(scope, receive, send)
            return
        cycle = send.__self__  # uvicorn's: what it has promised to send is counted there

        async def take(message: Any) -> None:
            if message["type"] != EXTENSION:
                await send(message)
                return
            await connection.send_file(cycle, message)
            if not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, receive, take)


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the client's side hasn't acknowledged; 0 where that can't be known."""
    if sys.platform == "win32":
        return 0
    import fcntl
    import termios

    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError, AttributeError):  # closed meanwhile
        return 0
    return int.from_bytes(answer, sys.byteorder)


def _counted(transport: asyncio.Transport) -> _Transport:
    assert isinstance(transport, _Transport)
    return transport


def _inner(transport: asyncio.Transport) -> asyncio.Transport:
    return _counted(transport).inner
