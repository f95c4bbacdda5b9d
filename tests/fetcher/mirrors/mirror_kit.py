"""One blob, web servers on loopback that give it as badly as a test says, and the pool at work on it with a real file.

A server counts each byte that it could send; its buffers are small, so that this is nearly what the other side took.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.listeners import visited

from samara.fetcher.mirrors.direct import Direct
from samara.fetcher.mirrors.piece import PieceProof
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.mirrors.verdicts import MirrorRejected
from samara.registry.http import HttpClient, Proxies
from samara.schemas.bittorrent import parse_blob_torrent
from samara.schemas.layouts import fixed_blocks
from samara.schemas.manifest import blocks_of
from samara.schemas.networks import NetworkPolicy
from samara.schemas.pull_record import Kind
from samara.seeder.hashing import hash_file
from samara.seeder.swarm_events import PieceFinished
from samara.seeder.torrent import build_torrent

MIB = 1 << 20
PIECE = 256 << 10
LIMIT = 60.0  # seconds that any one wait may take
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)\Z")
_BUFFER = 32 << 10  # of a server's socket
_CHUNK = 16 << 10


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Bytes and all that proves them."""

    data: bytes
    torrent: bytes
    name: str
    proof: PieceProof


def blob(folder: Path, size: int = 8 * MIB, *, seed: int = 1) -> Blob:
    """`size` random bytes."""
    path = folder / f"blob-{seed}"
    path.write_bytes(random.Random(seed).randbytes(size))
    hashes = hash_file(path, fixed_blocks(size), threads=1)
    built = build_torrent(hashes.b3.hex(), gguf=False, hashes=hashes.torrent)
    return Blob(
        data=path.read_bytes(),
        torrent=built.data,
        name=built.v2,
        proof=PieceProof(parse_blob_torrent(built.data).hashes, blocks_of(list(hashes.blocks))),
    )


# --- servers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, with the number it has at its server: the bytes [start, end) wanted."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How one request is answered. By default as asked for.

    `silent`: not even a head comes. `rate`: bytes per second; `stall_after`, `reset_after`: so many bytes of the body,
    then silence, or an end by RST.
    `flips`: offsets in the object where a bit is wrong. `total`: the length it says the object has.
    """

    data: bytes
    status: int | None = None
    headers: str = ""
    ranges: bool = True
    silent: bool = False
    rate: float | None = None
    stall_after: int | None = None
    reset_after: int | None = None
    flips: frozenset[int] = frozenset()
    total: int | None = None


@dataclass
class Source:
    """A server: `how` says for each request how to answer. What it saw and gave."""

    manners: Manners
    how: Callable[[Asked, Manners], Manners] = lambda _asked, usual: usual
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    sent: int = 0
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: threading.Event = field(default_factory=threading.Event)

    def usually(self, **changes: object) -> None:
        """Change its manners from now on."""
        with self.changed:
            self.manners = replace(self.manners, **changes)  # type: ignore[arg-type]

    def wait(self, what: Callable[[Source], bool]) -> None:
        """Until something is so here."""
        with self.changed:
            assert self.changed.wait_for(lambda: what(self), LIMIT), f"never: {self.asked[-5:]}, {self.sent} bytes"


@contextmanager
def serving(data: bytes, *, host: str = "127.0.0.1", **manners: object) -> Iterator[Source]:
    """A server of one object at every path, in threads, until the block ends."""
    made = Source(Manners(data=data, **manners))  # type: ignore[arg-type]
    listening = socket.create_server((host, 0), backlog=64)
    made.url = f"http://{host}:{listening.getsockname()[1]}/object"

    def visit(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            _visit(sock, made)

    def count() -> None:
        with made.changed:
            made.connections += 1

    with visited(listening, visit, on_connection=count):
        try:
            yield made
        finally:
            made.over.set()


def _visit(sock: socket.socket, source: Source) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    unread = b""
    while True:
        while b"\r\n\r\n" not in unread:
            got = sock.recv(1 << 14)
            if not got:
                return
            unread += got
        head, _, unread = unread.partition(b"\r\n\r\n")
        part = next((line[7:] for line in head.decode("latin-1").split("\r\n") if line.startswith("Range: ")), "")
        with source.changed:
            found = _RANGE.match(part)
            size = len(source.manners.data)
            start = int(found[1]) if found else 0
            end = min(size, int(found[2]) + 1) if found and found[2] else size
            asked = Asked(number=len(source.asked), start=start, end=end)
            source.asked.append(asked)
            source.at_once += 1
            source.most_at_once = max(source.most_at_once, source.at_once)
            source.changed.notify_all()
            usual = source.manners
        try:
            if not _answer(sock, source, asked, source.how(asked, usual), whole=found is None):
                return
        finally:
            with source.changed:
                source.at_once -= 1
                source.changed.notify_all()


def _answer(sock: socket.socket, source: Source, asked: Asked, how: Manners, *, whole: bool) -> bool:
    """Whether the connection can be kept."""
    if how.silent:
        return _until_gone(sock)
    total = len(how.data) if how.total is None else how.total
    if how.status is None and asked.start >= len(how.data):
        how = replace(how, status=416)
    if how.status is not None:
        sock.sendall(f"HTTP/1.1 {how.status} No\r\nContent-Length: 0\r\n{how.headers}\r\n".encode("latin-1"))
        return True
    start, end = (asked.start, asked.end) if how.ranges and not whole else (0, len(how.data))
    line = "206 Part" if how.ranges and not whole else "200 Whole"
    place = f"Content-Range: bytes {start}-{end - 1}/{total}\r\n" if line.startswith("206") else ""
    length = end - start if place else total
    sock.sendall(f"HTTP/1.1 {line}\r\nContent-Length: {length}\r\n{place}{how.headers}\r\n".encode("latin-1"))
    at = start
    body = bytearray(how.data[start:end])
    for offset in how.flips:
        if start <= offset < end:
            body[offset - start] ^= 0x10
    while at < end:
        size = min(_CHUNK, end - at)
        for limit in (how.stall_after, how.reset_after):
            if limit is not None:
                size = min(size, start + limit - at)
        if size <= 0 and how.reset_after is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if size <= 0:
            return _until_gone(sock)
        if how.rate is not None:
            source.over.wait(size / how.rate)
        sock.sendall(body[at - start : at - start + size])
        at += size
        with source.changed:
            source.sent += size
            source.changed.notify_all()
    return length == end - start


def _until_gone(sock: socket.socket) -> bool:
    while sock.recv(1 << 14):
        pass
    return False


# --- the pool at work -------------------------------------------------------------------------------------------------


class Ears:
    """Takes note of what the pool says of mirrors."""

    def __init__(self) -> None:
        self.answered: set[tuple[str, str]] = set()
        self.gave: dict[int, str] = {}
        self.refusals: list[tuple[Kind, str, str]] = []

    def mirror(self, url: str, endpoint: str) -> None:
        self.answered.add((url, endpoint))

    def mirror_gave(self, torrent: str, piece: int, url: str) -> None:
        assert piece not in self.gave, "a piece was written twice"
        self.gave[piece] = url

    def refused(self, kind: Kind, name: str, reason: str) -> None:
        self.refusals.append((kind, name, reason))

    @contextmanager
    def asking(self, url: str) -> Iterator[None]:
        yield


class Rig:
    """The pool, `Direct` and a file. Use as a context; `run` is the loop that a pull has."""

    def __init__(
        self,
        folder: Path,
        wanted: Blob,
        *,
        stall_timeout: float = 5.0,
        only_public: bool = False,
        pace: Callable[[int], float] = lambda _n: 0.0,
    ) -> None:
        self.blob = wanted
        self.path = folder / "fetched"
        self.path.touch()
        self.ears = Ears()
        self.client = HttpClient(NetworkPolicy(private=not only_public), proxies=Proxies())
        self.pool = MirrorPool(lambda: self.client, hears=self.ears, pace=pace, stall_timeout=stall_timeout, seed=1)
        self.direct = Direct(self.pool.wait)
        self.rejected: list[MirrorRejected] = []
        self.have: set[int] = set()

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.pool.close()
        self.client.close()
        self.direct.close()

    def add(self, *urls: str, have: frozenset[int] = frozenset(), in_order: bool = False) -> None:
        """Begin to fetch all but the pieces in `have`, which are put into the file."""
        self.have = set(have)
        with self.path.open("r+b") as file:
            for piece in have:
                start, end = self.blob.proof.span(piece)
                file.seek(start)
                file.write(self.blob.data[start:end])
        there = [piece in have for piece in range(self.blob.proof.count)]
        self.direct.add_fetch(self.blob.torrent, self.path, there)
        self.pool.add(
            self.blob.name, self.blob.proof, urls, have,
            with_peers=False, now=time.monotonic(), in_order=in_order,
        )  # fmt: skip

    def step(self) -> None:
        """One round of the loop."""
        for happened in self.direct.poll(0.02):
            if isinstance(happened, PieceFinished):
                self.pool.had(self.blob.name, happened.piece)
                self.have.add(happened.piece)
        self.rejected += self.pool.tick(time.monotonic(), self.direct)

    def until(self, what: Callable[[], bool], *, limit: float = LIMIT) -> None:
        """Work until something is so."""
        deadline = time.monotonic() + limit
        while not what():
            assert time.monotonic() < deadline, f"never; {len(self.have)} pieces, {self.rejected[-5:]}"
            self.step()

    def run(self, *, limit: float = LIMIT) -> None:
        """Work until the whole is there and nobody is at it any more; the bytes must be right."""
        self.until(lambda: len(self.have) == self.blob.proof.count, limit=limit)
        assert self.path.read_bytes() == self.blob.data
        self.until(lambda: not self.pool.is_busy, limit=limit)

    @property
    def received(self) -> int:
        """Bytes that came, wasted ones included."""
        return self.pool.received(self.blob.name)

    def reasons(self, url: str) -> list[str]:
        """Why a URL was rejected, each time."""
        return [one.reason for one in self.rejected if one.url == url]


@contextmanager
def full_disk(path: Path, room: int) -> Iterator[None]:
    """No file of this process may grow beyond `room` bytes: writing there fails, as on a full disk."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        assert path.stat().st_size <= room
