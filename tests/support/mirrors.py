"""An HTTP mirror on loopback: ranges, and every way a mirror can fail."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")
_CHUNK = 64 * 1024


@dataclass(kw_only=True)
class Mirror:
    """What a mirror does and what it has done. Change it while it runs to make it fail.

    `status`: answer every GET with it. `wrong_from`: flip a bit in every 16 KiB of the file from this offset on.
    `ends_after`: close the connection after so many bytes of a body. `rate`: bytes per second it gives.
    """

    folder: Path
    url: str = ""
    status: int | None = None
    wrong_from: int | None = None
    ends_after: int | None = None
    rate: int | None = None
    given: int = 0
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def of(self, name: str) -> str:
        """The URL of one file."""
        return f"{self.url}{name}"


@contextmanager
def mirror(folder: Path, *, host: str = "127.0.0.1") -> Iterator[Mirror]:
    """Serve the files of `folder` until the block ends. The URL ends in a slash."""
    made = Mirror(folder=folder)
    handler = type("Handler", (_Handler,), {"mirror": made})
    server = _Server((host, 0), handler)
    made.url = f"http://{host}:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(30)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet when the client hangs up, which clients of a liar do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        mirror = self.mirror
        with mirror.lock:
            mirror.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        if mirror.status is not None:
            self.send_error(mirror.status)
            return
        path = mirror.folder / unquote(self.path.lstrip("/"))
        if path.parent != mirror.folder or not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = _RANGE.match(self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        end = int(asked[2]) + 1 if asked and asked[2] else size
        end = min(end, size)
        if not 0 <= start < end:
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        try:
            self._send(path, start, end)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, path: Path, start: int, end: int) -> None:
        mirror = self.mirror
        left = mirror.ends_after
        with path.open("rb") as file:
            file.seek(start)
            at = start
            while at < end:
                if left is not None and left <= 0:
                    self.close_connection = True
                    return
                chunk = bytearray(file.read(min(_CHUNK, end - at)))
                if mirror.wrong_from is not None:
                    for wrong in range(max(0, mirror.wrong_from - at), len(chunk), 16 * 1024):
                        chunk[wrong] ^= 0x10
                if mirror.rate is not None:
                    mirror.stopped.wait(len(chunk) / mirror.rate)
                self.wfile.write(chunk)
                at += len(chunk)
                if left is not None:
                    left -= len(chunk)
                with mirror.lock:
                    mirror.given += len(chunk)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Quiet."""
