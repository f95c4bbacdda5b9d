"""What every request passes: rates, bodies, paths, who asks; what every answer bears; what is logged and counted."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import zstandard
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from service_kit import ORIGIN
from serving_kit import UNLIMITED, World, in_thread, raw, world

from samara.registry.service import guard
from samara.registry.service.app import create_app
from samara.registry.service.limits import Buckets, client_address
from samara.registry.service.logs import Answered, LogFormat, RequestLog, clean, line_of
from samara.registry.service.problems import RefusedError
from samara.registry.service.server import RunningServer
from samara.registry.service.settings import Quotas, Rates, Settings
from samara.schemas.networks import parse_networks
from samara.schemas.publication import MEDIA_TYPE


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = Settings(origin=ORIGIN, rates=UNLIMITED, quotas=Quotas(publish_bytes=100_000))
    with world(tmp_path_factory.mktemp("guard"), settings=settings) as found:
        yield found


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class TestBuckets:
    def test_a_burst_and_then_so_many_a_minute(self) -> None:
        clock = Clock()
        buckets = Buckets(60, clock)
        assert [buckets.take("192.0.2.1") for _ in range(60)] == [0.0] * 60
        assert 0 < buckets.take("192.0.2.1") <= 1.0
        assert buckets.take("192.0.2.2") == 0.0, "another one has its own"
        clock.now += 1.0
        assert buckets.take("192.0.2.1") == 0.0
        assert buckets.take("192.0.2.1") > 0.0
        clock.now += 3600
        assert buckets.ask("192.0.2.1").remaining == 59

    def test_a_clock_that_goes_back_gives_and_takes_nothing(self) -> None:
        clock = Clock()
        buckets = Buckets(60, clock)
        buckets.take("192.0.2.1")
        clock.now -= 1_000_000
        assert buckets.ask("192.0.2.1").remaining == 58

    def test_an_ipv6_site_is_one_client(self) -> None:
        buckets = Buckets(2, Clock())
        assert [buckets.take(f"2001:db8::{n:x}") > 0 for n in range(3)] == [False, False, True]

    def test_only_so_many_clients_are_remembered(self) -> None:
        buckets = Buckets(10, Clock(), max_clients=100)
        for number in range(1000):
            buckets.take(f"10.0.{number // 250}.{number % 250}")
        assert len(buckets) == 100

    def test_no_limit_is_no_limit(self) -> None:
        buckets = Buckets(0, Clock())
        assert all(buckets.take("192.0.2.1") == 0.0 for _ in range(10_000))


class TestWhoAsks:
    SETTINGS = Settings(origin=ORIGIN, proxies=parse_networks("127.0.0.1,10.0.0.0/8"))

    @pytest.mark.parametrize(
        ("peer", "forwarded", "expected"),
        [
            ("192.0.2.9", ["203.0.113.1"], "192.0.2.9"),  # no proxy of ours: its word is nobody's
            ("127.0.0.1", ["203.0.113.1"], "203.0.113.1"),
            ("127.0.0.1", ["198.51.100.7, 203.0.113.1"], "203.0.113.1"),  # what a client wrote itself stays outside
            ("127.0.0.1", ["203.0.113.1, 10.1.1.1"], "203.0.113.1"),  # two proxies of ours
            ("127.0.0.1", ["203.0.113.1", "10.1.1.1"], "203.0.113.1"),
            ("127.0.0.1", ["rubbish, 10.1.1.1"], "10.1.1.1"),
            ("127.0.0.1", [], "127.0.0.1"),
            ("127.0.0.1", [""], "127.0.0.1"),
            ("127.0.0.1", ["," * 5000], "127.0.0.1"),
            ("127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
            ("127.0.0.1", ["\xff\xfe"], "127.0.0.1"),
        ],
    )
    def test_forwarded_is_believed_only_as_far_as_our_proxies_wrote_it(
        self, peer: str, forwarded: list[str], expected: str
    ) -> None:
        headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
        assert client_address({"client": (peer, 1), "headers": headers}, self.SETTINGS) == expected


class TestFloods:
    def test_who_asks_too_often_has_to_wait_and_is_told_how_long(self, served: World) -> None:
        clock = Clock()
        settings = Settings(origin=ORIGIN, rates=Rates(reads=20), proxies=parse_networks("127.0.0.1"))
        service = replace(served.service, settings=settings, clock=clock)
        with RunningServer(create_app(service)) as server:
            flooded = replace(served, server=server)
            first = flooded.ask("/healthz")
            assert first.headers["ratelimit-policy"] == '"reads";q=20;w=60'
            assert first.headers["ratelimit"] == '"reads";r=19;t=3'
            statuses = [flooded.ask("/healthz").status for _ in range(25)]
            assert statuses == [200] * 19 + [429] * 6
            refused = flooded.ask("/v1/publishers")
            assert refused.status == 429
            assert refused.headers["retry-after"] == "3"
            assert refused.headers["ratelimit"] == '"reads";r=0;t=15', "some clients go by this one"
            assert refused.headers["access-control-allow-origin"] == "*", "a page of another site learns why"
            assert refused.headers["content-type"] == "application/problem+json"
            assert flooded.ask("/healthz", headers={"X-Forwarded-For": "203.0.113.5"}).status == 200
            clock.now += 3.0
            assert flooded.ask("/healthz").status == 200
            assert flooded.ask("/healthz").status == 429

    def test_publishing_has_a_rate_of_its_own(self, served: World) -> None:
        service = replace(served.service, settings=Settings(origin=ORIGIN, rates=Rates(publishes=2)))
        with RunningServer(create_app(service)) as server:
            flooded = replace(served, server=server)
            answers = [
                flooded.ask("/v1/publish", method="POST", body=b"x", headers={"Content-Type": MEDIA_TYPE}).status
                for _ in range(3)
            ]
            assert answers[2] == 429 and 429 not in answers[:2]
            assert flooded.ask("/healthz").status == 200


class TestBodies:
    def post(self, served: World, body: bytes, **headers: str) -> int:
        return served.ask(
            "/v1/publish", method="POST", body=body, headers={"Content-Type": MEDIA_TYPE, **headers}
        ).status  # fmt: skip

    def test_a_body_that_says_it_is_too_large_is_refused_by_its_head(self, served: World) -> None:
        with raw(served.server) as client:
            client.send(b"POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n")
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 413")

    @pytest.mark.parametrize("path", ["/v1/publish", "/api/models/acme/tiny/paths-info/main"])
    def test_a_body_that_says_nothing_is_counted(self, served: World, path: str) -> None:
        kind = MEDIA_TYPE if path == "/v1/publish" else "application/json"
        with raw(served.server) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.send(head.encode())
            in_thread(lambda: client.send((b"2710\r\n" + bytes(10_000) + b"\r\n") * 200))
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 413")

    def test_a_route_that_bounds_nothing_is_bounded_all_the_same(self, served: World) -> None:
        app = create_app(served.service)

        @app.post("/swallow")
        async def swallow(request: Request) -> None:
            async for _ in request.stream():
                pass

        app.router.routes.insert(0, app.router.routes.pop())
        with RunningServer(app) as server, raw(server) as client:
            client.send(b"POST /swallow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            in_thread(lambda: client.send((b"2710\r\n" + bytes(10_000) + b"\r\n") * 200))
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 413")

    def test_a_body_of_any_other_route_is_small(self, served: World) -> None:
        got = served.ask("/api/models/acme/tiny/paths-info/main", method="POST", headers={"Content-Length": "2000000"})
        assert got.status == 413

    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd, zstd", "x" * 200])
    def test_only_zstd_is_unpacked(self, served: World, coding: str) -> None:
        assert self.post(served, b"x", **{"Content-Encoding": coding}) == 415

    def test_what_unpacks_to_too_much_is_refused(self, served: World) -> None:
        bomb = zstandard.ZstdCompressor(level=19).compress(bytes(50_000_000))
        assert len(bomb) < 100_000
        assert self.post(served, bomb, **{"Content-Encoding": "zstd"}) == 413

    def test_one_client_has_few_publications_on_their_way(self, served: World) -> None:
        head = f"POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: 1000\r\n\r\n"
        with raw(served.server) as one, raw(served.server) as two, raw(served.server) as three:
            for client in (one, two):  # "100 Continue" tells that its body is awaited
                client.send(head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").encode())
                assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
            three.send(head.encode())
            assert three.until(b"\r\n\r\n").startswith(b"HTTP/1.1 503")
            assert served.ask("/healthz").status == 200
        for _ in range(200):
            if self.post(served, b"x") != 503:
                break
        else:
            raise AssertionError("who went away still counts")

    def test_all_bodies_together_are_bounded(self, served: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "UPLOADED", 50_000)
        with RunningServer(create_app(served.service)) as server:
            bounded = replace(served, server=server)
            assert self.post(bounded, bytes(60_000)) == 503
            assert self.post(bounded, bytes(40_000)) == 422
            assert self.post(bounded, bytes(40_000)) == 422, "what was let go doesn't count"


BAD_PATHS = [
    "/v1/../../etc/passwd", "/v1/%2e%2e/%2e%2e/etc/passwd", "/v1/%2E%2E/x", "/v1/.%2e/x", "/v1/./x", "/v1/%2e/x",
    "//etc/passwd", "/v1//publishers", "/v1/blobs//", "/v1/%00", "/v1/x%00.json", "/v1/a%0d%0aSet-Cookie:%20x",
    "/v1/%zz", "/v1/%", "/v1/%f", "/v1/%ff", "/v1/%c0%ae%c0%ae/x", "/v1/..%5c..%5cx", "/v1/..\\x", "/v1/%2f%2fx",
    "/acme/tiny/resolve/main/..%2f..%2fx", "/static/..%2f..%2fapp.py", "/static/%2e%2e/app.py", "/\x7f",
]  # fmt: skip


class TestPaths:
    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_a_path_that_could_mean_two_things_is_refused(self, served: World, path: str) -> None:
        with raw(served.server) as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
            got = client.rest()
        assert got.startswith(b"HTTP/1.1 400"), got[:300]
        assert b"set-cookie" not in got.lower().split(b"\r\n\r\n")[0]

    @pytest.mark.parametrize(
        "target", ["/" + "a" * 5000, "/v1/search?q=" + "a" * 9000, "/" + "%61" * 1500, "/v1/" + "a/" * 2500]
    )
    def test_a_huge_address_is_refused(self, served: World, target: str) -> None:
        assert served.ask(target).status == 414

    def test_the_asterisk_is_no_path(self, served: World) -> None:
        with raw(served.server) as client:
            client.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.rest().startswith(b"HTTP/1.1 400")

    @given(st.binary(max_size=40))
    def test_no_path_breaks_the_check(self, path: bytes) -> None:
        scope: dict[str, Any] = {"raw_path": b"/" + path, "path": "/", "query_string": b""}
        try:
            guard.check_target(scope)
        except RefusedError as error:
            assert error.status in {400, 414}

    def test_unknown_addresses_and_methods_are_problems(self, served: World) -> None:
        missing = served.ask("/v1/nothing/of/this/kind")
        assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")
        wrong = served.ask("/v1/publishers", method="DELETE")
        assert wrong.status == 405
        assert set(wrong.headers["allow"].split(", ")) >= {"GET", "HEAD"}
        assert served.ask("/v1/publishers", method="FOO").status in {400, 405}
        assert served.ask("/v1/publishers", method="HEAD").status == 200


class TestHeaders:
    @pytest.mark.parametrize("path", ["/healthz", "/v1/publishers", "/v1/nothing", "/v1/%00", "/"])
    def test_every_answer_is_safe_to_show(self, served: World, path: str) -> None:
        headers = served.ask(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"] and "*" not in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] in {"no-referrer", "same-origin"}
        assert len(headers["x-request-id"]) == 16

    def test_other_sites_may_read_the_api_and_nothing_else(self, served: World) -> None:
        assert served.ask("/v1/publishers").headers["access-control-allow-origin"] == "*"
        preflight = served.ask("/v1/blobs/" + "0" * 64, method="OPTIONS")
        assert preflight.status == 204
        assert "Range" in preflight.headers["access-control-allow-headers"]
        for path in ("/", "/status", "/metrics"):
            assert "access-control-allow-origin" not in served.ask(path).headers
        forbidden = served.ask("/v1/publish", method="OPTIONS")
        assert "POST" not in forbidden.headers.get("access-control-allow-methods", "")


class TestBugs:
    def test_a_bug_of_ours_says_nothing_to_the_client(self, served: World, caplog: pytest.LogCaptureFixture) -> None:
        app = create_app(served.service)

        @app.get("/broken")
        def broken() -> None:
            raise RuntimeError("secret detail")

        app.router.routes.insert(0, app.router.routes.pop())
        with RunningServer(app) as server:
            got = replace(served, server=server).ask("/broken")
        assert got.status == 500
        assert got.headers["content-type"] == "application/problem+json"
        assert b"secret" not in got.body and b"Traceback" not in got.body
        assert got.headers["x-request-id"] in caplog.text, "the operator finds it by its number"


class TestLogs:
    ANSWERED = Answered(
        at=1_800_000_000.25, number="ab12", method="GET", path="/x", status=200, size=5, seconds=0.25,
        address="192.0.2.1",
    )  # fmt: skip

    def test_one_line_each(self) -> None:
        assert json.loads(line_of(self.ANSWERED, LogFormat.JSON)) == {
            "time": "2027-01-15T08:00:00.250Z", "request": "ab12", "method": "GET", "path": "/x", "status": 200,
            "bytes": 5, "seconds": 0.25, "address": "192.0.2.1",
        }  # fmt: skip
        text = line_of(replace(self.ANSWERED, whole=False), LogFormat.TEXT)
        assert text == "2027-01-15T08:00:00.250Z 192.0.2.1 GET /x 200 5 B 0.250 s ab12 broken off"

    @given(st.text(max_size=2000))
    def test_no_path_makes_another_line(self, path: str) -> None:
        for format_ in (LogFormat.JSON, LogFormat.TEXT):
            line = line_of(replace(self.ANSWERED, path=path), format_)
            assert len(line.splitlines()) == 1 and line.isprintable() and len(line) < 20_000

    def test_escapes_of_terminals_are_shown_not_obeyed(self) -> None:
        assert clean("/\x1b[2J\u202e") == "/%1B[2J%202E"

    def test_requests_are_logged_without_their_query(self, served: World) -> None:
        stream = io.StringIO()
        with RequestLog(LogFormat.JSON, stream) as log:
            app = create_app(served.service, log=log.add)
            with RunningServer(app) as server:
                asking = replace(served, server=server)
                asking.ask("/healthz?token=secret")
                asking.ask("/v1/nothing")
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [(line["path"], line["status"]) for line in lines] == [("/healthz", 200), ("/v1/nothing", 404)]
        assert "secret" not in stream.getvalue()

    def test_a_log_that_nobody_reads_stops_nothing(self) -> None:
        class Full(io.StringIO):
            def write(self, _text: str) -> int:
                raise BrokenPipeError

        with RequestLog(LogFormat.TEXT, Full()) as log:
            for _ in range(30_000):
                log.add(self.ANSWERED)
        assert log.dropped == 30_000
