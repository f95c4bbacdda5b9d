"""A listening socket whose every connection is visited in a thread of its own, until the block ends; none is left."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIMIT = 60.0  # seconds that threads may take to end, once their connections are shut


@contextmanager
def visited(
    listening: socket.socket,
    visit: Callable[[socket.socket], None],
    *,
    on_connection: Callable[[], None],
    wrap: Callable[[socket.socket], socket.socket | None] = lambda sock: sock,
) -> Iterator[None]:
    """`wrap` gives the socket to talk through (TLS), or None if there is none; `on_connection` is called before."""
    threads: list[threading.Thread] = []
    lock = threading.Lock()
    open_now: set[socket.socket] = set()

    def one(accepted: socket.socket) -> None:
        with contextlib.closing(accepted):
            sock = wrap(accepted)
            if sock is None:
                return
            with contextlib.closing(sock):
                with lock:
                    open_now.add(sock)
                try:
                    visit(sock)
                finally:
                    with lock:
                        open_now.discard(sock)

    def accept() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            on_connection()
            threads.append(threading.Thread(target=one, args=(sock,), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join(LIMIT)
        with lock:
            for sock in open_now:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS too: without its farewell
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
