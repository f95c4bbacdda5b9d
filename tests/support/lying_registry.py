"""A registry on loopback that lies in every way it can: what it lists and gives is set while it runs."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from samara.registry.publications.judge import order_of
from samara.registry.trust.catalogs import read_catalog
from samara.schemas.digests import b3
from samara.schemas.publication import Publication
from samara.schemas.release_file import pack_release_object, release_object_name

Answer = Callable[["Handler"], None]
PAGE = 500


@dataclass(kw_only=True)
class Lying:
    """What it does. `listed`: (identity, name or None) in its order; `files`: path → bytes; `answers`: path → what is
    done in place of that; `pages`: a page of the list for an offset, in place of `listed`.
    """

    url: str = ""
    listed: list[tuple[str, str | None]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    pages: Callable[[int], object] | None = None
    requests: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def has(self, identity: str, publication: Publication, *, name: str | None = None, under: str = "") -> None:
        """List a publisher, and give what it published; `under`: in another one's folder."""
        self.listed = [one for one in self.listed if one[0] != (under or identity)]
        self.listed.append((under or identity, name))
        base = folder(under or identity)
        bundle = publication.metadata
        versions = read_catalog(identity, bundle).versions
        for name_, data in bundle.files(
            snapshot_version=versions["snapshot"], targets_version=versions["targets"]
        ):  # fmt: skip
            self.files[base + name_] = data
        for release in publication.releases:
            manifest = b3(release.envelope.payload).removeprefix("b3:")
            self.files[f"{base}releases/{release_object_name(manifest)}"] = pack_release_object(release)
        assert order_of(bundle)

    def page(self, offset: int) -> object:
        """A page of publishers."""
        if self.pages is not None:
            return self.pages(offset)
        some = self.listed[offset : offset + PAGE]
        return {"publishers": [{"identity": identity, "namespace": name} for identity, name in some]}


def folder(identity: str) -> str:
    """The path of a publisher's metadata."""
    return f"/v1/publishers/{identity}/metadata/"


@contextmanager
def lying_registry() -> Iterator[Lying]:
    """One that answers until the block ends."""
    made = Lying()
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"lying": made}))
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
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
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    lying: Lying
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """As it was told."""
        parts = urlsplit(self.path)
        self.lying.requests.append(parts.path)
        if (answer := self.lying.answers.get(parts.path)) is not None:
            answer(self)
        elif parts.path == "/v1/publishers":
            offset = int(parse_qs(parts.query).get("offset", ["0"])[0])
            self.give(json.dumps(self.lying.page(offset)).encode())
        elif (data := self.lying.files.get(parts.path)) is not None:
            self.give(data)
        else:
            self.refuse(404)

    def give(self, data: bytes, **headers: str) -> None:
        """200 with these bytes."""
        self.head(200, **{"Content-Length": str(len(data)), **headers})
        self.wfile.write(data)

    def refuse(self, status: int, **headers: str) -> None:
        """A status without a body."""
        self.head(status, **{"Content-Length": "0", **headers})

    def head(self, status: int, **headers: str) -> None:
        """Status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def endless(self, piece: bytes, *, pause: float = 0.0) -> None:
        """Bytes without end, of an announced terabyte."""
        self.head(200, **{"Content-Length": str(1 << 40)})
        while not self.lying.stopped.wait(pause):
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nowhere."""
