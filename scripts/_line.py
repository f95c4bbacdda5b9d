"""A line of a fixed speed: a TCP relay on this machine that lets so many bytes a second through, evenly.

A seeder's own cap gives in bursts, ten a second; what is in flight at any instant is then a burst, not what a real line
of that speed would hold. Standard library only.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType

CHUNK = 16 << 10
BUFFER = 64 << 10  # of each socket: the line itself should hold next to nothing
CATCH_UP = 0.005  # seconds of delay (a busy machine) that may be made up for


class Line:
    """Relays connections to `target`; what comes back from it is held to `rate` bytes per second. A context manager."""

    def __init__(self, target: tuple[str, int], *, rate: int) -> None:
        self._target = target
        self._rate = rate
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:  # fmt: skip
        with self._lock:
            self._listener.close()
            for connection in self._open:
                _hang_up(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                for connection in (near, far):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
                with self._lock:
                    self._open += [near, far]
                threading.Thread(target=_carry, args=(near, far, None), daemon=True).start()
                threading.Thread(target=_carry, args=(far, near, self._rate), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket, rate: int | None) -> None:
    due = time.monotonic()
    with contextlib.suppress(OSError):  # either end has gone: so has the connection
        while data := source.recv(CHUNK):
            if rate is not None:
                due = max(due + len(data) / rate, time.monotonic() - CATCH_UP)
                time.sleep(max(0.0, due - time.monotonic()))
            sink.sendall(data)
    _hang_up(source)
    _hang_up(sink)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
