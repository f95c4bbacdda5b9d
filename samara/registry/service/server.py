"""The application on a socket: uvicorn in a thread of its own, started and stopped by whoever owns it.

    with RunningServer(create_app(service)) as server:
        server.url                                     # http://127.0.0.1:PORT

Stopping is graceful: nothing more is accepted, answers under way are finished for a bounded time, then cut. Signals are
the caller's business. Talks plain HTTP/1.1; TLS is for a web server in front.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import uvicorn

from samara.registry.service.wire import FileSending, Wire, protocol_for
from samara.registry.service.wire_limits import WireLimits
from samara.schemas.endpoints import format_endpoint
from samara.schemas.errors import NetworkError, UsageError

BACKLOG = 1024
SENDERS = 16  # threads that read files to be sent
_TICKS = 5  # of a tenth of a second between two sweeps over the connections
_STOP_SLACK = 5.0  # seconds beyond `stop_time` until a server that doesn't end is given up


class RunningServer:
    """`app` at `listen` (host, port; port 0: any free one). A context manager: serves while it is entered."""

    def __init__(
        self,
        app: Any,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        *,
        sock: socket.socket | None = None,
        limits: WireLimits | None = None,
    ) -> None:
        """Opens nothing yet. `sock`: what `listening_socket(listen)` gave, where it was needed before."""
        self._app = app
        self._listen = listen
        self._sock = sock
        self.limits = limits or WireLimits()
        self._threads: ThreadPoolExecutor | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.address = listen

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        host, port = self.address
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)
        return f"http://{format_endpoint((reachable, port))}"

    @property
    def wire(self) -> Wire:
        """Its connections."""
        assert self._server is not None
        return self._server.wire

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen and serve; returns when connections are accepted. Raises NetworkError or UsageError."""
        sock = self._sock or listening_socket(self._listen)
        self.address = (self._listen[0], sock.getsockname()[1])
        self._threads = ThreadPoolExecutor(SENDERS, thread_name_prefix="samara-send")
        self._server = _Server(self._app, Wire(self.limits, self._threads))
        self._thread = threading.Thread(target=self._run, args=(sock,), name="samara-serve", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._server.changed.wait(0.05)
        if not self._thread.is_alive():
            raise NetworkError(f"the server at {format_endpoint(self.address)} ended at once")

    def stop(self) -> None:
        """Finish running answers for at most `limits.stop_time` seconds, then end."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(self.limits.stop_time + _STOP_SLACK)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, sock: socket.socket) -> None:
        assert self._server is not None
        try:
            self._server.run(sockets=[sock])
        finally:
            sock.close()
            self._server.changed.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.stop()


class _Server(uvicorn.Server):
    def __init__(self, app: Any, wire: Wire) -> None:
        self.wire = wire
        self.changed = threading.Event()
        super().__init__(
            uvicorn.Config(
                FileSending(app),
                loop="asyncio",
                http=protocol_for(wire),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # whom to believe is decided in `limits`
                server_header=False,
                timeout_keep_alive=int(wire.limits.keep_alive),
                timeout_graceful_shutdown=max(1, int(wire.limits.stop_time)),
                backlog=BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever runs the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.changed.set()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % _TICKS == 0:
            self.wire.sweep(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn waits for every connection to end by itself; after its time they are cut."""
        await super().shutdown(sockets=sockets)
        for connection in tuple(self.wire.open):
            connection.cut()
        await asyncio.sleep(0)  # their transports are closed by the loop's next turn


def listening_socket(listen: tuple[str, int]) -> socket.socket:
    """A bound, listening socket; `[::]` takes IPv4 as well. Raises NetworkError, or UsageError for no address."""
    host, port = listen
    numeric = 0 if host == "localhost" else socket.AI_NUMERICHOST  # nobody is asked what a name means
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | numeric)
    except (OSError, UnicodeError):
        raise UsageError(
            "not an address of this machine", expected="HOST:PORT such as 127.0.0.1:8642", actual=repr(host[:80])
        ) from None
    family, _, _, _, address = found[0]
    both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (str(address[0]), port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )  # fmt: skip
    except OSError as error:
        where = format_endpoint(listen)
        if error.errno == errno.EADDRINUSE:
            raise NetworkError(
                f"another program listens at {where} already", next_step="stop it, or choose another --listen"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"{where} is no address of this machine", next_step="choose another --listen") from None
        raise NetworkError(
            f"can't listen at {where} ({error.strerror or error})", next_step="choose another --listen"
        ) from None
