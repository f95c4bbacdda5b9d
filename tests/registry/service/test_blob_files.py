"""Blobs by HTTP: ranges and conditions from disk and out of manifests, files that change, hand-over to nginx."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from blake3 import blake3
from service_kit import ORIGIN
from serving_kit import UNLIMITED, World, raw, world
from support.waiting import eventually

from samara.registry.service import sending
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.settings import Settings
from samara.registry.service.wire_limits import WireLimits
from samara.schemas.stamps import Stamp

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("blobs")) as found:
        yield found


@pytest.fixture(scope="module", params=["disk", "index"])
def blob(request: pytest.FixtureRequest, served: World) -> tuple[str, bytes]:
    """A blob that lies on disk, and one that only a manifest has."""
    if request.param == "disk":
        file = served.file("tiny", "f16")
        return f"/v1/blobs/{file.b3_hex}", served.place(file).read_bytes()
    file = served.file("tiny", "q8_0", "README.md")
    assert file.inline is not None
    return f"/v1/blobs/{file.b3_hex}", file.inline


class TestRanges:
    def test_the_whole_blob_is_what_its_digest_says(self, served: World, blob: tuple[str, bytes]) -> None:
        path, data = blob
        got = served.ask(path)
        assert (got.status, got.body) == (200, data)
        assert blake3(got.body).hexdigest() == path[-64:]
        assert got.headers["etag"] == f'"{path[-64:]}"'
        assert got.headers["accept-ranges"] == "bytes"
        assert got.headers["cache-control"] == "public, max-age=31536000, immutable, no-transform"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "content-encoding" not in got.headers and "last-modified" not in got.headers

    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-7", -7, None), ("bytes=5-99999999", 5, None)],
    )
    def test_a_range_is_that_part(
        self, served: World, blob: tuple[str, bytes], asked: str, start: int, end: int | None
    ) -> None:
        path, data = blob
        got = served.ask(path, headers={"Range": asked})
        expected = data[start:end]
        first = start % len(data)
        assert (got.status, got.body) == (206, expected)
        assert got.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(data)}"
        assert got.headers["content-length"] == str(len(expected))

    def test_a_range_beyond_the_end_is_416_with_the_size(self, served: World, blob: tuple[str, bytes]) -> None:
        path, data = blob
        got = served.ask(path, headers={"Range": f"bytes={len(data)}-"})
        assert got.status == 416
        assert got.headers["content-range"] == f"bytes */{len(data)}"
        assert got.headers["content-type"] == "application/problem+json"

    def test_a_thousand_overlapping_ranges_give_the_blob_once(self, served: World, blob: tuple[str, bytes]) -> None:
        path, data = blob
        got = served.ask(path, headers={"Range": "bytes=" + ",".join(["0-"] * 1000)})
        assert (got.status, len(got.body)) == (200, len(data))

    def test_what_a_client_has_is_not_sent_again(self, served: World, blob: tuple[str, bytes]) -> None:
        path, _ = blob
        got = served.ask(path, headers={"If-None-Match": f'W/"x", "{path[-64:]}"'})
        assert (got.status, got.body) == (304, b"")
        assert got.headers["etag"] == f'"{path[-64:]}"'

    def test_if_match_of_something_else_is_412(self, served: World, blob: tuple[str, bytes]) -> None:
        assert served.ask(blob[0], headers={"If-Match": '"x"'}).status == 412

    def test_if_range_of_something_else_gives_everything(self, served: World, blob: tuple[str, bytes]) -> None:
        path, data = blob
        got = served.ask(path, headers={"Range": "bytes=0-1", "If-Range": '"x"'})
        assert (got.status, got.body) == (200, data)

    def test_head_has_the_headers_of_get_and_no_body(self, served: World, blob: tuple[str, bytes]) -> None:
        path, _ = blob
        got, head = served.ask(path), served.ask(path, method="HEAD")
        varying = {"date", "x-request-id"}
        assert head.body == b""
        assert {k: v for k, v in head.headers.items() if k not in varying} == {
            k: v for k, v in got.headers.items() if k not in varying
        }

    def test_a_connection_goes_on_after_a_file(self, served: World, blob: tuple[str, bytes]) -> None:
        path, data = blob
        with raw(served.server) as client:
            for _ in range(3):
                client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99999\r\n\r\n".encode())
                head = client.until(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 206")
                size = min(len(data), 100_000)
                while len(client.data) < size:
                    client.data += client.sock.recv(1 << 16)
                assert bytes(client.data[:size]) == data[:size]
                del client.data[:size]


class TestNames:
    def test_a_blob_is_saved_under_the_name_its_release_gives_it(self, served: World) -> None:
        file = served.file("tiny", "f16")
        assert served.ask(f"/v1/blobs/{file.b3_hex}").headers["content-disposition"] == (
            f'attachment; filename="{file.path}"'
        )
        assert served.ask(f"/v1/blobs/{file.b3_hex}/{file.path}").status == 200
        assert served.ask(f"/v1/blobs/{file.b3_hex}/{file.b3_hex}.gguf").status == 200

    def test_it_has_no_other_names(self, served: World) -> None:
        file = served.file("tiny", "f16")
        assert served.ask(f"/v1/blobs/{file.b3_hex}/invoice.exe").status == 404

    def test_a_blob_of_no_listed_release_is_404(self, served: World) -> None:
        got = served.ask(f"/v1/blobs/{'0' * 64}")
        assert got.status == 404
        assert got.headers["content-type"] == "application/problem+json"


class TestFilesThatChange:
    def test_a_file_that_changed_since_it_was_verified_is_not_given(self, served: World) -> None:
        file = served.file("tiny", "q8_0", "extra.bin")
        place = served.place(file)
        assert served.ask(f"/v1/blobs/{file.b3_hex}").status == 200
        place.write_bytes(b"\0" * file.size)  # as long, and in place
        assert served.ask(f"/v1/blobs/{file.b3_hex}").status == 404
        place.unlink()
        assert served.ask(f"/v1/blobs/{file.b3_hex}").status == 404

    @pytest.mark.parametrize("change", ["overwritten", "truncated"])
    def test_a_file_that_changes_while_it_is_sent_ends_the_connection(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        monkeypatch.setattr(sending, "SLICE", 256 << 10)
        with world(tmp_path) as own:
            file = own.file("blob", "v1")
            place = own.place(file)
            with raw(own.server, receive_buffer=16 << 10) as client:
                client.send(f"GET /v1/blobs/{file.b3_hex} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = client.until(b"\r\n\r\n")
                assert f"content-length: {file.size}".encode() in head.lower()
                if change == "overwritten":  # all but the beginning, which may be on its way
                    with place.open("r+b") as writer:
                        writer.seek(4_000_000)
                        writer.write(b"\0" * (file.size - 4_000_000))
                else:
                    os.truncate(place, 4_000_000)
                body = client.rest()
            assert len(body) < file.size
            assert b"\0" * 64 not in body

    def test_a_file_that_is_replaced_while_it_is_sent_goes_on_as_it_was(self, tmp_path: Path) -> None:
        with world(tmp_path) as own:
            file = own.file("blob", "v1")
            place = own.place(file)
            data = place.read_bytes()
            with raw(own.server, receive_buffer=16 << 10) as client:
                client.send(f"GET /v1/blobs/{file.b3_hex} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                client.until(b"\r\n\r\n")
                other = place.with_name("other")
                other.write_bytes(b"\0" * file.size)
                os.utime(other, ns=(place.stat().st_atime_ns, place.stat().st_mtime_ns))
                other.replace(place)
                body = client.rest()
            assert b"\0" * 64 not in body
            assert data.startswith(body)


class TestSlowReaders:
    def test_a_file_that_nobody_takes_is_let_go(self, tmp_path: Path) -> None:
        limits = WireLimits(pace_time=0.6, stop_time=1.0)
        with world(tmp_path, limits=limits) as own:
            file = own.file("blob", "v1")
            with raw(own.server, receive_buffer=4096) as client:
                client.send(f"GET /v1/blobs/{file.b3_hex} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 4)
                eventually(lambda: own.server.wire.cut_off > 0)
                assert len(client.rest()) < 4 * file.size
            place = own.place(file)
            eventually(lambda: place not in _open_files(), "its file is still open")


def _open_files() -> set[Path]:
    """What this process has open, where the system tells."""
    found = set()
    folder = Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.exists() else ():
        with contextlib.suppress(OSError):
            found.add(entry.readlink())
    return found


class TestOtherServers:
    def test_without_sendfile_the_same_bytes_come(self, served: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("samara.registry.service.wire.can_sendfile", lambda: False)
        file = served.file("tiny", "f16")
        data = served.place(file).read_bytes()
        assert served.ask(f"/v1/blobs/{file.b3_hex}").body == data
        got = served.ask(f"/v1/blobs/{file.b3_hex}", headers={"Range": "bytes=1000-900000"})
        assert (got.status, got.body) == (206, data[1000:900_001])


class TestHandOver:
    """X-Accel-Redirect, with the real nginx in front, as deploy/nginx.conf configures it."""

    def test_nginx_sends_what_the_service_allows(self, served: World, tmp_path: Path) -> None:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "this test needs nginx (Debian: nginx-light)"
        file = served.file("tiny", "f16")
        data = served.place(file).read_bytes()
        home = served.service.home
        stored = home.blob(file.b3_hex)
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(data)
        served.service.index.set_location(
            file.b3, stored, Stamp.of(stored.stat()), in_store=True, verified_at=1.0
        )  # fmt: skip
        settings = Settings(
            origin=ORIGIN, rates=UNLIMITED, accel="/samara-files/", proxies=(ip_network("127.0.0.1/32"),)
        )
        service = replace(served.service, settings=settings)
        with RunningServer(create_app(service)) as server, _nginx(program, tmp_path, server, home.blobs) as port:
            front = replace(served, server=_at(port))
            path = f"/v1/blobs/{file.b3_hex}"
            whole = front.ask(path)
            assert (whole.status, whole.body) == (200, data)
            assert whole.headers["etag"] == f'"{file.b3_hex}"'
            part = front.ask(path, headers={"Range": "bytes=10-19", "If-Range": f'"{file.b3_hex}"'})
            assert (part.status, part.body) == (206, data[10:20])
            assert front.ask(path, headers={"Range": "bytes=10-19", "If-Range": '"x"'}).status == 200
            assert front.ask(path, headers={"If-None-Match": f'"{file.b3_hex}"'}).status == 304
            assert front.ask(path, method="HEAD").headers["content-length"] == str(len(data))
            # clients of the Hub go by these, and pages of other origins: of a file that it sends nginx hands few on
            resolved = f"/acme/tiny/resolve/f16/{file.path}"
            by_name = front.ask(resolved, method="HEAD").headers
            assert by_name["location"].startswith(f"http://127.0.0.1:{port}/acme/tiny/resolve/")
            sent, passed = front.ask(resolved), replace(served, server=server).ask(resolved)
            assert (sent.status, sent.body) == (200, data)
            same = (
                "etag", "x-repo-commit", "x-linked-size", "x-linked-etag", "access-control-allow-origin",
                "access-control-expose-headers", "content-security-policy", "content-disposition",
            )  # fmt: skip
            for name in same:
                assert sent.headers[name] == passed.headers[name] != "", name
            assert by_name["x-repo-commit"] == sent.headers["x-repo-commit"]
            assert len(sent.headers["x-request-id"]) == 16
            assert front.ask(f"/samara-files/{file.b3_hex[:2]}/{file.b3_hex}").status == 404, "only by hand-over"

    def test_who_comes_past_the_web_server_gets_bytes(self, served: World) -> None:
        file = served.file("blob", "v1")
        settings = Settings(
            origin=ORIGIN, rates=UNLIMITED, accel="/samara-files/", proxies=(ip_network("192.0.2.0/24"),)
        )
        with RunningServer(create_app(replace(served.service, settings=settings))) as server:
            got = replace(served, server=server).ask(f"/v1/blobs/{file.b3_hex}")
        assert len(got.body) == file.size
        assert "x-accel-redirect" not in got.headers


def _at(port: int) -> RunningServer:
    """Something else's address, where a server is asked for."""
    server = RunningServer(None)
    server.address = ("127.0.0.1", port)
    return server


class _nginx:  # noqa: N801  (used as a function)
    def __init__(self, program: str, scratch: Path, server: RunningServer, blobs: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        config = scratch / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {scratch}/pid; error_log {scratch}/error.log;\n"
            "events { worker_connections 64; }\n"
            f"http {{ access_log off; client_body_temp_path {scratch}/b; proxy_temp_path {scratch}/p;\n"
            f" fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;\n"
            + (DEPLOY / "nginx.conf")
            .read_text()
            .replace("listen 80;", f"listen 127.0.0.1:{self.port};")
            .replace("http://registry:8642", server.url)
            .replace("alias /var/lib/samara/blobs/", f"alias {blobs}/")
            + "}\n"
        )
        self._command = [program, "-p", str(scratch), "-c", str(config)]

    def __enter__(self) -> int:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        for _ in range(500):
            assert self._process.poll() is None, (self._process.stderr and self._process.stderr.read()) or b""
            with socket.socket() as probe:
                probe.settimeout(0.1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self.port
            time.sleep(0.02)
        raise AssertionError("nginx didn't answer")

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
