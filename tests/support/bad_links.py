"""A TCP proxy that is a bad link: slow, cut at random bytes, stalling, silent, moving. Loopback, any platform, no root.

    with BadLink(seeder.endpoint, Manners(cut_after=(20_000, 400_000)), seed=7) as link:
        pulling(home, file, "--peer", link.text)

It knows nothing of what it carries. Whatever is random is drawn from the seed and the number of the connection, so that
a run can be had again; what is timing is not the same twice.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CHUNK = 16 * 1024
LIMIT = 30.0  # seconds that stopping may take
_LOOK_AGAIN = 0.05  # seconds between two looks at whether the link still stands
_BUFFER = 64 * 1024  # what the system may hold for a connection: what is silent shall be so soon
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a link behaves. Sizes are bytes, counted over both directions of a connection.

    `rate`: bytes per second, of all connections together. `cut_after`: each connection is reset after a size drawn from
    this range; with `cuts_at_most` only the first so many. `stall_after`: after so many bytes of a connection nothing
    more passes; it stays open. `hiccup`: the chance (0 … 1) that a chunk of 16 KiB is held up, and for how many
    seconds. `refuses`: nobody is let in.
    """

    rate: int | None = None
    cut_after: tuple[int, int] | None = None
    cuts_at_most: int | None = None
    stall_after: int | None = None
    hiccup: tuple[float, float] = (0.0, 0.0)
    refuses: bool = False


@dataclass(kw_only=True, eq=False)
class _Connection:
    """Two sockets, and what has passed between them."""

    near: socket.socket
    far: socket.socket
    dice: random.Random
    cut_at: int | None
    passed: int = 0
    stalled: bool = False
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_held(self) -> bool:
        """Whether nothing passes though it is open."""
        return self.stalled and not self.closed


class BadLink:
    """A link to `target` (host, port). Use as a context manager. Its manners may be changed while it runs.

    `passed`: bytes carried so far. `connections`: how many were made through it. `cuts`: how many it has reset.
    `hiccups`: how many chunks it has held up.
    """

    def __init__(
        self, target: tuple[str, int], manners: Manners | None = None, *, seed: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.manners = manners or Manners()
        self.target = target
        self.passed = self.connections = self.cuts = self.hiccups = 0
        self._seed = seed
        self._host = host
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._open: list[_Connection] = []
        self._threads: list[threading.Thread] = []
        self._is_silent = False
        self._may_pass_at = 0.0
        self._listener = self._listen(host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._stopped.set()
        _stop_listening(self._listener)
        for connection in self._all():
            self._close(connection, reset=False)
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a bad link doesn't end"

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where to call."""
        host, port = self._listener.getsockname()
        return str(host), int(port)

    @property
    def text(self) -> str:
        """HOST:PORT."""
        return f"{self.endpoint[0]}:{self.endpoint[1]}"

    # -- what a test does to it ----------------------------------------------------------------------------------

    def silence(self) -> None:
        """The link is down: nothing passes, nobody is told. New connections hang."""
        self._is_silent = True

    def speak(self) -> None:
        """It is up again: whatever waited goes on, stalled connections too; `manners` may stall them anew."""
        self._is_silent = False
        for connection in self._all():
            connection.stalled = False

    def forget(self) -> None:
        """What a change of address does: connections made so far are never heard of again, new ones are fine."""
        for connection in self._all():
            connection.stalled = True

    @property
    def has_stalled(self) -> bool:
        """Whether a connection is open on which nothing passes."""
        return any(connection.stalled for connection in self._all())

    def cut(self) -> int:
        """Reset every connection now. Returns how many."""
        found = self._all()
        for connection in found:
            self._close(connection, reset=True)
        return len(found)

    def move(self, host: str) -> None:
        """Be found at another loopback address, same port; the old one refuses, its connections are dead."""
        port = self.endpoint[1]
        _stop_listening(self._listener)
        self.forget()
        self._listener = self._listen(host, port)

    # -- carrying ------------------------------------------------------------------------------------------------

    def _listen(self, host: str, port: int = 0) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # what it accepts inherits this
        listener.bind((host, port))
        listener.listen()
        listener.settimeout(_LOOK_AGAIN)
        self._start(self._accept, listener)
        return listener

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                near, _address = listener.accept()
            except TimeoutError:
                continue
            except OSError:  # closed: stopped, or moved
                return
            self._start(self._carry, near)

    def _carry(self, near: socket.socket) -> None:
        if self.manners.refuses:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            near.close()
            return
        self._hold(None)
        try:
            far = socket.create_connection(self.target, timeout=LIMIT)
        except OSError:
            near.close()
            return
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        with self._lock:
            self.connections += 1
            dice = random.Random(f"{self._seed}/{self.connections}")
            manners = self.manners
            spared = manners.cuts_at_most is not None and self.connections > manners.cuts_at_most
            cut = None if manners.cut_after is None or spared else dice.randint(*manners.cut_after)
            made = _Connection(near=near, far=far, dice=dice, cut_at=cut)
            self._open.append(made)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(_LOOK_AGAIN)
        self._start(self._pump, made, far, near)
        self._pump(made, near, far)

    def _pump(self, connection: _Connection, source: socket.socket, target: socket.socket) -> None:
        while not (self._stopped.is_set() or connection.closed):
            if self._is_silent or connection.stalled:
                self._stopped.wait(_LOOK_AGAIN)
                continue
            try:
                chunk = source.recv(CHUNK)
            except TimeoutError:
                continue
            except OSError:
                break
            if not chunk:
                break
            if not self._pass(connection, target, chunk):
                return
        self._close(connection, reset=False)

    def _pass(self, connection: _Connection, target: socket.socket, chunk: bytes) -> bool:
        """Hand on one chunk, as the link's manners are; False if the connection ends with it."""
        manners = self.manners
        chance, seconds = manners.hiccup
        with connection.lock:
            late = chance and connection.dice.random() < chance
            left = None if connection.cut_at is None else connection.cut_at - connection.passed
            connection.passed += len(chunk)
            if manners.stall_after is not None and connection.passed > manners.stall_after:
                connection.stalled = True
        if late:
            self.hiccups += 1
            self._stopped.wait(seconds)
        if manners.rate is not None:
            self._wait_for_turn(len(chunk), manners.rate)
        self._hold(connection)
        if left is not None and left <= len(chunk):
            chunk = chunk[: max(0, left)]
        if not _send_all(target, chunk, self._stopped, connection):
            self._close(connection, reset=False)
            return False
        with self._lock:
            self.passed += len(chunk)
        if left is not None and left <= len(chunk):
            self._close(connection, reset=True)
            return False
        return True

    def _wait_for_turn(self, size: int, rate: int) -> None:
        with self._lock:
            at = max(self._may_pass_at, time.monotonic())
            self._may_pass_at = at + size / rate
        self._stopped.wait(max(0.0, at - time.monotonic()))

    def _hold(self, connection: _Connection | None) -> None:
        """Wait while nothing passes; what is held up is not lost."""
        while not self._stopped.is_set() and (self._is_silent or (connection is not None and connection.is_held)):
            self._stopped.wait(_LOOK_AGAIN)

    def _close(self, connection: _Connection, *, reset: bool) -> None:
        with self._lock:
            if connection.closed:
                return
            connection.closed = True
            self._open.remove(connection)
            self.cuts += reset
        for end in (connection.near, connection.far):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _all(self) -> list[_Connection]:
        with self._lock:
            return list(self._open)


def _stop_listening(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)  # closing alone waits for whoever is accepting
    listener.close()


def _send_all(target: socket.socket, chunk: bytes, stopped: threading.Event, connection: _Connection) -> bool:
    """Like sendall, but not for ever: an end that takes nothing must not hold up a link that stops."""
    view = memoryview(chunk)
    while view:
        if stopped.is_set() or connection.closed:
            return False
        try:
            view = view[target.send(view) :]
        except TimeoutError:
            continue
        except OSError:
            return False
    return True
