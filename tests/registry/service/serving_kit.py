"""A registry that really serves, and clients that say exactly what a test wants said. No test in here."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service_kit import ORIGIN, registry

from samara.registry.service.app import create_app
from samara.registry.service.ports import Bringer
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.service.wire_limits import WireLimits
from samara.schemas.manifest import Release, ReleaseFile

UNLIMITED = Rates(reads=0, publishes=0, announces=0)
PATIENCE = 30.0  # seconds that a client of ours waits at most


@dataclass(frozen=True, kw_only=True)
class Got:
    """An answer. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class World:
    """A service and its server."""

    service: Service
    server: RunningServer
    app: Any

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Got:
        """One request on a connection of its own; the path goes out as it is."""
        connection = http.client.HTTPConnection(*self.server.address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None and "Transfer-Encoding" not in (headers or {}):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Got(status=answer.status, headers=found, body=answer.read())

    def release(self, model: str, tag: str) -> Release:
        """One of acme's releases."""
        owner = next(one for one in self.service.listings.owners() if one.name == "acme")
        listing = self.service.listings.listing(owner, model, tag)
        assert listing is not None
        release = self.service.manifests.release(listing.manifest)
        assert release is not None
        return release

    def file(self, model: str = "blob", tag: str = "v1", path: str | None = None) -> ReleaseFile:
        """One file of them; the only one unless a path is told."""
        release = self.release(model, tag)
        return next(file for file in release.files if path is None or file.path == path)

    def place(self, file: ReleaseFile) -> Path:
        """Where its bytes lie."""
        record = self.service.index.blob(file.b3)
        assert record is not None
        return record.locations[0].path


@contextlib.contextmanager
def world(
    folder: Path,
    *,
    settings: Settings | None = None,
    bringer: Bringer | None = None,
    limits: WireLimits | None = None,
) -> Iterator[World]:
    """service_kit's registry, served."""
    chosen = settings or Settings(origin=ORIGIN, rates=UNLIMITED)
    with registry(folder, settings=chosen, bringer=bringer) as service:
        app = create_app(service)
        with RunningServer(app, limits=limits) as server:
            yield World(service=service, server=server, app=app)


@dataclass
class Raw:
    """A connection of bytes."""

    sock: socket.socket
    data: bytearray = field(default_factory=bytearray)

    def send(self, data: bytes) -> None:
        """All of it; a server that hung up is noticed by reading."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Read up to and with `mark`; what came if the server hangs up before."""
        while mark not in self.data:
            piece = self._receive()
            if not piece:
                break
            self.data += piece
        at = self.data.find(mark)
        end = len(self.data) if at < 0 else at + len(mark)
        found, self.data = bytes(self.data[:end]), self.data[end:]
        return found

    def rest(self) -> bytes:
        """Read until the server hangs up."""
        while piece := self._receive():
            self.data += piece
        return bytes(self.data)

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(1 << 16)
        except ConnectionError:
            return b""


@contextlib.contextmanager
def raw(server: RunningServer, *, receive_buffer: int | None = None) -> Iterator[Raw]:
    """A connection. `receive_buffer`: how many bytes the kernel takes for who doesn't read."""
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(server.address)
        yield Raw(sock)


def in_thread(call: Any) -> threading.Thread:
    """Begin something beside the test."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread
