"""Announces a second through the whole server: uvicorn, everything around the routes, parsing, the swarm, the answer.

    python bench/registry_tracker.py [--announces 40000] [--connections 64] [--swarm 2000] [--json FILE]

The server is a process of its own, so that "for each CPU second" is what one core does when the client has another one.
Two ways: on connections that stay, as a busy web server in front has them, and with a connection for each announce, as
clients do. Peers are asked for as libtorrent asks; the swarm is full before the clock starts. Memory is the server's
before, and its peak after.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from measure import bench, cpu_of, peak_rss, report

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.service.wire_limits import WireLimits
from samara.registry.tracker import Rules, Tracker
from samara.registry.tracker.values import Torrent

NAME = b"samara bench"
TORRENT = Torrent(b3="b3:" + "00" * 32, v1=hashlib.sha1(NAME).digest(), v2=hashlib.sha256(NAME).digest())
AT_LEAST = 2000  # announces a second on one core


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one way of asking came to."""

    announces: int
    seconds: float
    cpu: float

    @property
    def by_clock(self) -> float:
        """Announces a second."""
        return self.announces / self.seconds

    @property
    def by_core(self) -> float:
        """Announces for each second of the server's processor time."""
        return self.announces / self.cpu


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve()
        return
    with bench(__doc__, preset="default", announces=40_000, connections=64, swarm=2000) as (_, options):
        result, rows = measure(options.announces, options.connections, options.swarm)
        report(result, rows, options.json)


def measure(announces: int, connections: int, swarm: int) -> tuple[dict[str, object], list[list[str]]]:
    """Both ways against one server: (for the JSON, for the table)."""
    requests = [request(who) for who in range(swarm)]
    with server() as (pid, port):
        drive(port, requests, connections, stay=True)  # the swarm is full, everything is warm
        before = peak_rss(pid)
        ways = {
            "connections that stay": timed(pid, port, requests, announces, connections, stay=True),
            "a connection for each": timed(pid, port, requests, announces, connections, stay=False),
        }
        after = peak_rss(pid)
    rows = [["way", "announces/s", "for each CPU second of the server", f"≥ {AT_LEAST}"]]
    rows += [
        [name, f"{rate.by_clock:,.0f}", f"{rate.by_core:,.0f}", "yes" if rate.by_core >= AT_LEAST else "NO"]
        for name, rate in ways.items()
    ]
    rows.append(["memory", f"{before >> 20} MB", f"{after >> 20} MB at most, after", ""])
    result = {
        "announces": announces,
        "swarm": swarm,
        "rates": {
            name: {"by_clock": round(rate.by_clock), "by_core": round(rate.by_core)} for name, rate in ways.items()
        },
        "memory_before": before,
        "memory_after": after,
    }
    return result, rows


def request(who: int) -> bytes:
    """What client number `who` sends."""
    fields = {
        "info_hash": TORRENT.v1, "peer_id": b"-LT2110-%012d" % who, "port": 20_000 + who, "uploaded": 0,
        "downloaded": 0, "left": 0 if who % 2 else 1_000_000, "corrupt": 0, "key": f"{who:08X}", "event": "none",
        "numwant": 50, "compact": 1, "no_peer_id": 1, "supportcrypto": 1, "redundant": 0,
    }  # fmt: skip
    asked = "&".join(f"{name}={quote(v if isinstance(v, bytes) else str(v), safe='')}" for name, v in fields.items())
    return (
        f"GET /announce?{asked} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: libtorrent/2.1.1\r\n"
        "Accept-Encoding: gzip\r\n\r\n"
    ).encode()


def timed(pid: int, port: int, requests: Sequence[bytes], announces: int, connections: int, *, stay: bool) -> Rate:
    wanted = [requests[number % len(requests)] for number in range(announces)]
    cpu, started = cpu_of([pid]), time.monotonic()
    drive(port, wanted, connections, stay=stay)
    return Rate(announces=announces, seconds=time.monotonic() - started, cpu=cpu_of([pid]) - cpu)


def drive(port: int, requests: Sequence[bytes], connections: int, *, stay: bool) -> None:
    """Send every request, so many at once, and read every answer to its end."""
    waiting = iter(requests)
    with selectors.DefaultSelector() as selector:
        for _ in range(min(connections, len(requests))):
            selector.register(_opened(port, next(waiting)), selectors.EVENT_READ, bytearray())
        left = len(requests)
        while left:
            for key, _ in selector.select(30):
                sock, heard = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                part = sock.recv(1 << 16)
                heard += part
                if not _is_whole(heard):
                    if not part:
                        sys.exit(f"the server hung up: {bytes(heard[:200])!r}")
                    continue
                if not heard.startswith(b"HTTP/1.1 200 ") or b"5:peers" not in heard:
                    sys.exit(f"not an answer: {bytes(heard[:400])!r}")
                heard.clear()
                left -= 1
                more = next(waiting, None)
                if more is not None and stay:
                    sock.sendall(more)
                    continue
                selector.unregister(sock)
                sock.close()
                if more is not None:
                    selector.register(_opened(port, more), selectors.EVENT_READ, bytearray())


def _opened(port: int, first: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(first)
    return sock


def _is_whole(heard: bytearray) -> bool:
    end = heard.find(b"\r\n\r\n")
    at = heard.find(b"content-length: ", 0, end)
    return end >= 0 and len(heard) - end - 4 >= int(heard[at + 16 : heard.index(b"\r", at)])


@contextmanager
def server() -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its pid and port."""
    process = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.communicate("")


def serve() -> None:
    """Serve one torrent until stdin ends. All come from one address here, so an address may fill the swarm."""
    tracker = Tracker(Rules(per_address=1_000_000))
    tracker.publish([TORRENT])
    with tempfile.TemporaryDirectory() as folder, Index.open(Home(Path(folder))) as index:
        service = Service(
            home=Home(Path(folder)),
            index=index,
            settings=Settings(origin="http://127.0.0.1", rates=Rates(announces=0)),
            tracker=tracker,
        )
        with RunningServer(create_app(service), limits=WireLimits(per_address=4096)) as running:
            print(running.address[1], flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
