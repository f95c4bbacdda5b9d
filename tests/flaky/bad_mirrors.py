"""An HTTP mirror of one file that behaves as badly as it is told: wrong, slow, refusing, changing, sending elsewhere.

with BadMirror(path) as served:
    served.script = [Reply(status=503)]        # its first answers, one by one
    served.conduct = Conduct(wrong=True)       # all others
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

CHUNK = 16 * 1024
LIMIT = 30.0  # seconds that stopping may take
_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer without the file: a status and what goes with it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How the file is given. Sizes are bytes, rates bytes per second.

    `content`: another file in its place. `wrong`: one bit of each 16 KiB turned over. `total`: says that the file is so
    long. `body`: so many bytes more than it says (fewer: below 0) are sent. `rate`, and `drips`, byte by byte.
    `stall_after`: so many bytes of an answer, then nothing, on a connection that stays open. `slow_head`: the headers
    come byte by byte. `ranges`: whether it knows them. `always`: answers everything with this.
    """

    content: Path | None = None
    etag: str | None = None
    wrong: bool = False
    total: int | None = None
    body: int = 0
    rate: int | None = None
    drips: float | None = None
    stall_after: int | None = None
    slow_head: float | None = None
    ranges: bool = True
    always: Reply | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: when (monotonic seconds), for what, and what it was answered."""

    at: float
    path: str
    part: str
    status: int


@dataclass(kw_only=True)
class BadMirror:
    """Serves `path` under any name. Use as a context manager; change script and conduct while it runs.

    `turns`: (bytes, conduct): once so many were given in all, its connections break and it goes on like that.
    """

    path: Path
    host: str = "127.0.0.1"
    port: int = 0
    script: list[Reply] = field(default_factory=list)
    conduct: Conduct = field(default_factory=Conduct)
    turns: tuple[int, Conduct] | None = None
    asked: list[Asked] = field(default_factory=list)
    given: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"served": self})
        self._server = _Server((self.host, self.port), handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )  # fmt: skip
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(LIMIT)

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://{self.host}:{self.port}/blob.bin"

    def behave(self, conduct: Conduct | None = None, *script: Reply) -> None:
        """Begin anew: forget what was, answer like this."""
        with self.lock:
            self.script, self.conduct, self.turns = list(script), conduct or Conduct(), None
            self.asked, self.given = [], 0

    def note(self, path: str, part: str, status: int) -> None:
        """A request was answered."""
        with self.lock:
            self.asked.append(Asked(at=time.monotonic(), path=path, part=part, status=status))

    def next_reply(self) -> Reply | None:
        """The script's next answer, if any is left."""
        with self.lock:
            return self.script.pop(0) if self.script else self.conduct.always

    def gave(self, size: int) -> bool:
        """Count what was sent; whether the mirror has just turned into another."""
        with self.lock:
            self.given += size
            if self.turns is not None and self.given >= self.turns[0]:
                self.conduct, self.turns = self.turns[1], None
                return True
            return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: clients of bad mirrors hang up."""


class _Handler(BaseHTTPRequestHandler):
    served: BadMirror
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        served, conduct = self.served, self.served.conduct
        part = self.headers.get("Range", "")
        reply = served.next_reply()
        if reply is not None:
            served.note(self.path, part, reply.status)
            self.send_response(reply.status)
            for name, value in (*reply.headers, ("Content-Length", "0")):
                self.send_header(name, value)
            self.end_headers()
            return
        path = conduct.content or served.path
        size = path.stat().st_size
        found = _RANGE.match(part) if conduct.ranges else None
        start = int(found[1]) if found else 0
        end = min(int(found[2]) + 1 if found and found[2] else size, size)
        if not start < end:
            served.note(self.path, part, 416)
            self.send_error(416)
            return
        served.note(self.path, part, 206 if found else 200)
        self.send_response(206 if found else 200)
        self.send_header("Content-Type", "application/octet-stream")
        total = size if conduct.total is None else conduct.total
        self.send_header("Content-Length", str(end - start if found else total))
        if conduct.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if conduct.etag is not None:
            self.send_header("ETag", conduct.etag)
        if found:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        if conduct.slow_head is not None:
            self.flush_headers()
            self.wfile.write(b"X-Slow: ")
            while not served.stopped.wait(conduct.slow_head):
                self.wfile.write(b"x")
            self.wfile.write(b"\r\n")
        self.end_headers()
        self._send(conduct, path, start, end)

    def _send(self, conduct: Conduct, path: Path, start: int, end: int) -> None:
        served = self.served
        sent = 0
        with path.open("rb") as file:
            file.seek(start)
            left = end - start + min(0, conduct.body)
            while left > 0:
                chunk = bytearray(file.read(min(CHUNK, left)))
                if conduct.wrong:
                    chunk[0] ^= 0x10
                if conduct.stall_after is not None and sent + len(chunk) > conduct.stall_after:
                    served.stopped.wait(600)
                    self.close_connection = True
                    return
                if conduct.drips is not None:
                    chunk = chunk[:1]
                    file.seek(start + sent + 1)
                self.wfile.write(chunk)
                sent, left = sent + len(chunk), left - len(chunk)
                wait = conduct.drips or (len(chunk) / conduct.rate if conduct.rate else 0.0)
                has_turned = served.gave(len(chunk)) or served.conduct is not conduct
                if has_turned or (wait and served.stopped.wait(wait)):
                    self.close_connection = True
                    return
        if conduct.body:
            self.wfile.write(bytes(max(0, conduct.body)))
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Quiet."""
