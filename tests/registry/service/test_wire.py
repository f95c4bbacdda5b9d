"""Connections: who is too slow, too many, too large or talks nonsense is cut off, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from serving_kit import PATIENCE, Raw, in_thread, raw
from support.waiting import eventually

from samara.registry.service.server import RunningServer, listening_socket
from samara.registry.service.wire_limits import Crowd, Pace, WireLimits, client_of, is_within
from samara.schemas.errors import NetworkError, UsageError
from samara.schemas.networks import parse_networks

SHORT = WireLimits(
    head_time=0.4, keep_alive=1.0, pace_time=0.6, pace_bytes=4096, drain_time=0.4, connections=1500, per_address=1500,
    head_bytes=4096, head_count=20, pipelined=4, stop_time=5.0,
)  # fmt: skip
BIG = 64 << 20
OK = b"HTTP/1.1 200"
App = Callable[[Any, Any, Any], Awaitable[None]]


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Application:
    """What the connections lead to. Remembers what it saw."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.running = 0
        self.go_on = asyncio.Event()
        self.begun = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.running += 1
        try:
            await self._route(scope, receive, send)
        finally:
            self.running -= 1

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/big":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % BIG)]}
            )  # fmt: skip
            for _ in range(BIG >> 16):
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif path == "/body":
            body = b""
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
            self.bodies.append(body)
            await answer(send, b"%d" % len(body))
        elif path == "/refused":
            await answer(send, b"no", 413)
        elif path == "/slow":
            self.begun.set()
            await self.go_on.wait()
            await answer(send, b"done")
        elif path == "/headers":
            await answer(send, b"\n".join(b"%s: %s" % pair for pair in scope["headers"]))
        else:
            await answer(send, b"hello")


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture
def server(app: Application) -> Iterator[RunningServer]:
    with RunningServer(app, limits=SHORT) as running:
        yield running


def get(client: Raw, path: str = "/") -> bytes:
    client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client.until(b"hello")


class TestHeads:
    def test_a_head_that_never_ends_is_cut_off(self, server: RunningServer) -> None:
        with raw(server) as client:
            stop = threading.Event()

            def trickle() -> None:
                client.send(b"GET / HTTP/1.1\r\n")
                while not stop.wait(0.05):
                    client.send(b"X-A: b\r\n")  # always something, never all

            thread = in_thread(trickle)
            assert client.rest() == b""
            stop.set()
            thread.join()

    def test_a_connection_that_says_nothing_is_cut_off(self, server: RunningServer) -> None:
        with raw(server) as client:
            assert client.rest() == b""

    def test_a_rest_between_requests_is_longer_but_not_endless(self, server: RunningServer) -> None:
        with raw(server) as client:
            assert OK in get(client)
            time.sleep(SHORT.head_time + 0.2)  # longer than a head may take
            assert OK in get(client)
            assert client.rest() == b""

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 5000 + b"\r\n\r\n", b"431"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 21 + b"\r\n", b"431"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
            (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
            (b"GET / HTTP/9.9\r\n\r\n", b"400"),
            (b"GET /\xff HTTP/1.1\r\n\r\n", b"400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"400"),  # TLS, where none is spoken
            (b"rubbish\r\n\r\n", b"400"),
        ],
    )
    def test_nonsense_is_refused_at_once(self, server: RunningServer, request_: bytes, status: bytes) -> None:
        with raw(server) as client:
            client.send(request_)
            got = client.rest()
        assert got.startswith(b"HTTP/1.1 " + status), got[:200]
        assert b"application/problem+json" in got

    def test_trailers_never_become_headers(self, server: RunningServer) -> None:
        with raw(server) as client:
            client.send(
                b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
                b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
            )
            assert OK not in client.rest()

    def test_a_crowd_of_requests_at_once_is_refused(self, server: RunningServer, app: Application) -> None:
        with raw(server) as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            assert client.rest() == b""
        assert app.running <= 1
        eventually(lambda: app.loop is not None)
        assert app.loop is not None
        app.loop.call_soon_threadsafe(app.go_on.set)

    def test_a_few_requests_at_once_are_answered_in_their_order(self, server: RunningServer) -> None:
        with raw(server) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /end HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert client.rest().count(b"hello") == 4

    def test_nonsense_after_a_request_never_gets_into_its_answer(self, server: RunningServer) -> None:
        with raw(server, receive_buffer=16 << 10) as client:
            client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            client.until(b"\r\n\r\n")
            client.send(b"rubbish\r\n\r\n")
            body = client.rest()
        assert body.strip(b"\0") == b""
        assert len(body) < BIG


class TestBodies:
    def test_a_body_that_trickles_is_cut_off(self, server: RunningServer, app: Application) -> None:
        with raw(server) as client:
            client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            stop = threading.Event()

            def trickle() -> None:
                while not stop.wait(0.05):
                    client.send(b"x")

            thread = in_thread(trickle)
            assert client.rest() == b""
            stop.set()
            thread.join()
        eventually(lambda: app.running == 0)
        assert app.bodies == []

    def test_a_body_that_keeps_its_pace_may_take_long(self, server: RunningServer, app: Application) -> None:
        with raw(server) as client:
            client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 40960\r\n\r\n")
            for _ in range(10):
                client.send(bytes(4096))
                time.sleep(0.15)  # in all longer than pace_time
            assert client.until(b"40960").startswith(OK)

    def test_who_goes_on_after_a_refusal_is_heard_out_for_a_moment(self, server: RunningServer) -> None:
        with raw(server) as client:
            client.send(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            assert client.until(b"no").startswith(b"HTTP/1.1 413")
            stop = threading.Event()

            def go_on() -> None:
                while not stop.wait(0.01):
                    client.send(bytes(1000))

            thread = in_thread(go_on)
            assert client.rest() == b""
            stop.set()
            thread.join()


class TestSlowReaders:
    def test_an_answer_that_nobody_takes_is_cut_off(self, server: RunningServer, app: Application) -> None:
        with raw(server, receive_buffer=4096) as client:
            client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: server.wire.cut_off == 1)
            eventually(lambda: app.running == 0)
            assert len(client.rest()) < BIG

    def test_who_reads_slowly_but_steadily_is_served(self, server: RunningServer) -> None:
        with raw(server, receive_buffer=4096) as client:
            client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            until = time.monotonic() + 3 * SHORT.pace_time
            read = 0
            while time.monotonic() < until:
                piece = client.sock.recv(16 << 10)
                assert piece
                read += len(piece)
                time.sleep(0.005)
            assert read < BIG
            assert server.wire.cut_off == 0


class TestCrowds:
    def test_a_thousand_idle_connections_leave_room_for_others(self, app: Application) -> None:
        limits = WireLimits(head_time=60.0, connections=1500, per_address=1500)
        with RunningServer(app, limits=limits) as server, contextlib.ExitStack() as idle:
            for number in range(1000):
                sock = idle.enter_context(socket.create_connection(server.address, timeout=PATIENCE))
                if number % 2:
                    sock.sendall(b"GET / HTTP/1.1\r\nX: ")  # half of them hang in the middle of a head
            eventually(lambda: server.wire.crowd.count == 1000)
            for _ in range(20):
                with raw(server) as client:
                    assert OK in get(client)
            assert server.wire.crowd.count >= 1000
        assert server.wire.crowd.count == 0

    def test_too_many_of_one_address_are_turned_away(self, app: Application) -> None:
        limits = WireLimits(head_time=60.0, per_address=5)
        with RunningServer(app, limits=limits) as server, contextlib.ExitStack() as idle:
            for _ in range(5):
                idle.enter_context(socket.create_connection(server.address))
            eventually(lambda: server.wire.crowd.count == 5)
            with raw(server) as client:
                assert client.rest().startswith(b"HTTP/1.1 503")
            idle.close()
            eventually(lambda: server.wire.crowd.count == 0)
            with raw(server) as client:
                assert OK in get(client)

    def test_a_web_server_in_front_has_as_many_as_there_are(self) -> None:
        crowd = Crowd(WireLimits(connections=4, per_address=1, trusted=parse_networks("10.0.0.0/8")))
        assert [crowd.enter("10.0.0.1") for _ in range(3)] == [True] * 3
        assert [crowd.enter("192.0.2.1"), crowd.enter("192.0.2.1")] == [True, False]
        assert not crowd.enter("10.0.0.1"), "four in all"
        crowd.leave("10.0.0.1")
        assert crowd.enter("192.0.2.2")

    def test_an_ipv6_site_is_one_client(self) -> None:
        assert client_of("2001:db8:1:2::1") == client_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
        assert client_of("2001:db8:1:3::1") != client_of("2001:db8:1:2::1")
        assert client_of("::ffff:192.0.2.1") == "192.0.2.1"
        assert client_of("fe80::1%eth0") == "fe80::/64"
        assert client_of("") == ""
        assert is_within("::ffff:10.1.1.1", parse_networks("10.0.0.0/8"))
        assert not is_within("rubbish", parse_networks("10.0.0.0/8"))

    def test_pace_is_judged_by_windows(self) -> None:
        limits = WireLimits(pace_bytes=100, pace_time=10.0)
        pace = Pace(0.0, 0)
        assert pace.keeps_up(99, 9.0, limits)
        assert pace.keeps_up(100, 9.0, limits)  # another window
        assert pace.keeps_up(150, 18.0, limits)
        assert not pace.keeps_up(199, 19.0, limits)


class TestStopping:
    def test_answers_under_way_are_finished(self, app: Application) -> None:
        server = RunningServer(app, limits=SHORT)
        server.start()
        with raw(server) as client, raw(server) as idle:
            get(idle)
            client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            assert app.begun.wait(PATIENCE)
            stopping = in_thread(server.stop)
            assert idle.rest() == b"", "who rests is sent away"
            with pytest.raises(ConnectionError):
                socket.create_connection(server.address, timeout=PATIENCE).close()
            assert app.loop is not None
            app.loop.call_soon_threadsafe(app.go_on.set)
            got = client.rest()
            stopping.join(PATIENCE)
        assert got.startswith(OK) and got.endswith(b"done")
        assert not server.is_running

    def test_answers_that_never_end_are_cut(self, app: Application) -> None:
        server = RunningServer(app, limits=WireLimits(stop_time=1.0))
        server.start()
        with raw(server, receive_buffer=4096) as client, raw(server) as waiting:
            client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            waiting.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            client.until(b"\r\n\r\n")
            assert app.begun.wait(PATIENCE)
            server.stop()
            assert not server.is_running
            assert len(client.rest()) < BIG
            waiting.rest()
        assert app.running == 0

    def test_a_port_that_is_taken_is_said_so(self, server: RunningServer) -> None:
        with pytest.raises(NetworkError, match="another program listens"):
            listening_socket(server.address)

    @pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "x" * 300, "\0"])
    def test_an_address_that_is_not_ours_is_said_so(self, host: str) -> None:
        with pytest.raises((UsageError, NetworkError)):
            listening_socket((host, 0)).close()


def test_small_answers_do_not_wait_for_an_acknowledgement() -> None:
    """Nagle's algorithm and delayed acknowledgements together cost 40 ms an answer on a connection that stays."""
    with RunningServer(Application()) as server, raw(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.until(b"\r\n\r\n")
        (connection,) = server.wire.open
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
