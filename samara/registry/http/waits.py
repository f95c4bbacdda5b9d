"""No wait without an end: whatever a socket is doing, it can be ended by its time or from another thread.

A timeout of the socket alone is not enough: whoever sends one byte of a header, a handshake or a chunk's size now and
then never meets it. So each connection has a Guard; one thread per client shuts the socket of a guard that is late.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Ended(StrEnum):
    """Why a guard ended what it guards."""

    LATE = "late"
    ABORTED = "aborted"


class Guard:
    """Over one connection, from the look-up of its name to its end. Made by a Watchdog."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._end: Callable[[], object] | None = None
        self.deadline = math.inf
        self.ended: Ended | None = None

    def watch(self, sock: socket.socket) -> None:
        """This is what is waited on from now on. Sockets wrapped for TLS too: it is TCP that is shut."""

        def shut() -> None:
            with contextlib.suppress(OSError):  # closed already, or not connected
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket.shutdown would hand out ciphertext as data

        self.on_end(shut)

    def on_end(self, end: Callable[[], object]) -> None:
        """`end` is called, from any thread, if the wait has to end."""
        with self._lock:
            self._end = end
            if self.ended is not None:
                end()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What is done in here is ended after so many seconds; `ended` tells."""
        self._watchdog.expect(self, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.deadline = math.inf

    def end(self, why: Ended) -> None:
        """End what is being waited for, now. The first reason stays."""
        with self._lock:
            self.ended = self.ended or why
            if self._end is not None:
                self._end()

    def release(self) -> None:
        """Nothing to guard any more; call before closing the socket."""
        with self._lock:
            self._end = None
        self._watchdog.forget(self)


class Watchdog:
    """The guards of one client, and the thread that looks at the clock for them. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._guards: set[Guard] = set()
        self._wake = math.inf
        self._closed = False
        self._thread: threading.Thread | None = None

    def guard(self) -> Guard:
        """A new one. After `close` it is ended from the start."""
        guard = Guard(self)
        with self._changed:
            closed = self._closed
            if not closed:
                self._guards.add(guard)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="http-waits", daemon=True)
                    self._thread.start()
        if closed:
            guard.end(Ended.ABORTED)
        return guard

    def expect(self, guard: Guard, deadline: float) -> None:
        """`guard` is to be ended at `deadline` (of time.monotonic)."""
        guard.deadline = deadline
        if deadline < self._wake:  # mostly it isn't: who looks after the next ten is awake in time for this one
            with self._changed:
                self._changed.notify()

    def forget(self, guard: Guard) -> None:
        """It is over."""
        with self._changed:
            self._guards.discard(guard)

    def close(self) -> None:
        """End all there are."""
        with self._changed:
            self._closed = True
            guards = list(self._guards)
            self._changed.notify()
        for guard in guards:
            guard.end(Ended.ABORTED)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                self._wake = math.inf  # before looking: a deadline set from here on wakes us, seen or not
                now = time.monotonic()
                late = [guard for guard in self._guards if guard.deadline <= now]
                if not late:
                    self._wake = min((guard.deadline for guard in self._guards), default=math.inf)
                    self._changed.wait(None if self._wake == math.inf else self._wake - now)
                    continue
            for guard in late:
                guard.deadline = math.inf
                guard.end(Ended.LATE)
