"""Where a request may go: addresses, names that change their mind, redirects, certificates."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from http_kit import (
    DATA,
    PATIENCE,
    Authority,
    Contacts,
    Request,
    Visitor,
    client,
    everything,
    failure,
    kind,
    mirror,
    once,
    redirects,
    says,
    server,
)

from samara.registry.http import HttpFailure, Proxies
from samara.registry.http.client import MAX_REDIRECTS, HttpClient
from samara.schemas.networks import NetworkPolicy, parse_networks

OPEN = NetworkPolicy(private=True)

# --- addresses ------------------------------------------------------------------------------------------------------


def test_a_strangers_url_with_a_local_address_is_refused_without_a_socket() -> None:
    contacts = Contacts()
    with server(mirror()) as there, client(contacts=contacts) as web:
        error = failure(lambda: web.get(there.url))
        assert error.kind is HttpFailure.POLICY
        assert "127.0.0.1 is a loopback address" in str(error)
        assert (there.connections, contacts) == (0, [])
        assert everything(web.get(there.url, vouched=True)) == DATA


def test_and_so_is_a_name_for_one() -> None:
    names = {"mirror.example": ["127.0.0.1"], "both.example": ["::1", "127.0.0.1", "::ffff:127.0.0.1"]}
    with server(mirror()) as there, client(names=names) as web:
        for name in names:
            assert kind(lambda name=name: web.get(f"http://{name}:{there.port}/")) is HttpFailure.POLICY  # type: ignore[misc]
        assert there.connections == 0


def test_of_a_names_addresses_only_those_allowed_are_dialled() -> None:
    contacts = Contacts()
    policy = NetworkPolicy(only=parse_networks("127.0.0.2/32"))
    names = {"mirror.example": ["127.0.0.1", "127.0.0.2", "::1"]}
    with server(mirror(), host="127.0.0.2") as there, client(policy, names=names, contacts=contacts) as web:
        assert everything(web.get(f"http://mirror.example:{there.port}/")) == DATA
        assert contacts.endpoints == [f"127.0.0.2:{there.port}"]


def test_only_the_users_networks_even_for_what_he_named() -> None:
    with server(mirror()) as there, client(NetworkPolicy(only=parse_networks("10.0.0.0/8"))) as web:
        error = failure(lambda: web.get(there.url, vouched=True))
        assert error.kind is HttpFailure.POLICY
        assert "outside the networks allowed" in str(error)
        assert there.connections == 0


def test_a_name_is_looked_up_once_and_what_was_judged_is_dialled() -> None:
    """DNS rebinding: an address that is allowed for the judge, another one for the connection."""
    answers = iter([["127.0.0.2"], ["127.0.0.1"]])
    contacts = Contacts()

    def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    policy = NetworkPolicy(only=parse_networks("127.0.0.2"))
    with (
        server(mirror()) as there,
        HttpClient(policy, proxies=Proxies(), resolve=resolve, on_contact=contacts.append) as web,
    ):
        error = failure(lambda: web.get(f"http://mirror.example:{there.port}/"))
        assert error.kind is HttpFailure.CONNECT  # nobody listens there
        assert contacts.endpoints == [f"127.0.0.2:{there.port}"]
        assert kind(lambda: web.get(f"http://mirror.example:{there.port}/")) is HttpFailure.POLICY
        assert there.connections == 0


def test_a_connection_made_for_the_user_is_not_there_for_a_stranger() -> None:
    with server(mirror()) as there, client(names={"nas.example": ["127.0.0.1"]}) as web:
        url = f"http://nas.example:{there.port}/"
        assert everything(web.get(url, vouched=True)) == DATA
        assert kind(lambda: web.get(url)) is HttpFailure.POLICY
        assert everything(web.get(url, vouched=True)) == DATA
        assert (len(there.requests), there.connections) == (2, 1)


# --- redirects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_part_that_was_asked_for(status: int) -> None:
    with server(mirror(ETag='"v1"')) as there, client() as web:
        locations = [f"{there.url}/final", "//127.0.0.1:{port}/second", "/first", "?q"]

        def send(visitor: Visitor, request: Request) -> None:
            visitor.answer(status, b"over there", Location=locations.pop().format(port=here.port))

        with server(once(send)) as here:
            answer = web.get(f"{here.url}/start", start=10, end=20, if_range='"v1"', vouched=True)
            assert everything(answer) == DATA[10:20]
            assert (answer.url, answer.endpoint) == (f"{there.url}/final", f"127.0.0.1:{there.port}")
            assert [request.target for request in here.requests] == ["/start", "/start?q", "/first", "/second"]
            assert here.connections == 1
        (request,) = there.requests
        assert (request.headers["range"], request.headers["if-range"]) == ("bytes=10-19", '"v1"')
        assert request.headers["host"] == f"127.0.0.1:{there.port}"


def test_a_circle_is_left_after_a_few_rounds() -> None:
    with server(redirects(lambda request: "/again")) as there, client() as web:
        assert kind(lambda: web.get(there.url, vouched=True)) is HttpFailure.REDIRECT
        assert len(there.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/",
        "javascript:1",
        "http://",
        "http://[::1/",
        "http://user:word@127.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1:0/",
        "http://" + "x" * 9000,
        "http:\\\\x\\",
    ],
)
def test_a_redirect_to_what_is_no_url_is_refused(location: str) -> None:
    with server(redirects(lambda request: location)) as there, client() as web:
        assert kind(lambda: web.get(there.url, vouched=True)) is HttpFailure.REDIRECT


def test_a_redirect_that_does_not_say_where_to_is_a_status() -> None:
    with server(once(lambda visitor, _: visitor.answer(302))) as there, client() as web:
        error = failure(lambda: web.get(there.url, vouched=True))
        assert (error.kind, error.status) == (HttpFailure.STATUS, 302)


def test_a_redirect_is_judged_like_a_strangers_url() -> None:
    """The user vouched for one host; where it sends us is that host's idea."""
    with (
        server(mirror(), host="127.0.0.2") as inside,
        server(redirects(lambda request: f"{inside.url}/secret")) as there,
        server(redirects(lambda request: f"http://inside.example:{inside.port}/secret")) as by_name,
        client(names={"inside.example": ["127.0.0.2"]}) as web,
    ):
        assert kind(lambda: web.get(there.url, vouched=True)) is HttpFailure.POLICY
        assert kind(lambda: web.get(by_name.url, vouched=True)) is HttpFailure.POLICY
        assert inside.connections == 0


def test_bytes_of_a_location_that_are_not_ascii_are_encoded() -> None:
    with server(mirror()) as there, client() as web:
        first = "/modèle"

        def send(visitor: Visitor, request: Request) -> None:
            if request.target == "/":
                visitor.answer(302, Location=first.encode().decode("latin-1"))
            else:
                visitor.answer(302, Location=there.url)

        with server(once(send)) as here:
            assert everything(web.get(f"{here.url}/", vouched=True)) == DATA
            assert here.requests[1].target == "/mod%C3%A8le"


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only one the system trusts, for this test."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return made


NAMES = {"mirror.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}


def test_https_works_with_the_systems_authorities_and_keeps_its_connection(authority: Authority) -> None:
    context = authority.server_for("mirror.example")
    with server(mirror(), tls=context) as there, client(OPEN, names=NAMES) as web:
        url = f"https://mirror.example:{there.port}/x"
        for start in (0, 7, 100):
            answer = web.get(url, start=start)
            assert (answer.url, answer.endpoint) == (url, f"127.0.0.1:{there.port}")
            assert everything(answer) == DATA[start:]
        assert there.connections == 1
        assert there.requests[0].headers["host"] == f"mirror.example:{there.port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_certificate_may_be_for_an_address(authority: Authority, host: str) -> None:
    with server(mirror(), host=host, tls=authority.server_for(host)) as there, client(OPEN) as web:
        assert everything(web.get(there.url)) == DATA


def _wrong_name(authority: Authority, folder: Path) -> ssl.SSLContext:
    return authority.server_for("somebody-else.example", "127.0.0.1")


def _self_signed(authority: Authority, folder: Path) -> ssl.SSLContext:
    return Authority(folder, "unknown").server_for("mirror.example")


def _expired(authority: Authority, folder: Path) -> ssl.SSLContext:
    return authority.server_for("mirror.example", days=-1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [(_wrong_name, "mismatch"), (_self_signed, "certificate"), (_expired, "expired")],
)
def test_who_cannot_prove_to_be_the_host_gets_no_request(
    authority: Authority, tmp_path: Path, make: Callable[[Authority, Path], ssl.SSLContext], reason: str
) -> None:
    with server(mirror(), tls=make(authority, tmp_path)) as there, client(OPEN, names=NAMES) as web:
        error = failure(lambda: web.get(f"https://mirror.example:{there.port}/", vouched=True))
        assert error.kind is HttpFailure.TLS
        assert reason in str(error)
        assert there.requests == []


def test_a_kept_connection_is_for_the_name_it_was_proven_for(authority: Authority) -> None:
    with server(mirror(), tls=authority.server_for("mirror.example")) as there, client(OPEN, names=NAMES) as web:
        assert everything(web.get(f"https://mirror.example:{there.port}/")) == DATA
        assert kind(lambda: web.get(f"https://other.example:{there.port}/")) is HttpFailure.TLS


def test_old_tls_is_refused(authority: Authority) -> None:
    context = authority.server_for("mirror.example")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with server(mirror(), tls=context) as there, client(OPEN, names=NAMES) as web:
        assert kind(lambda: web.get(f"https://mirror.example:{there.port}/")) is HttpFailure.TLS
        assert there.requests == []


def test_plain_http_where_tls_was_expected_is_no_proof(authority: Authority) -> None:
    with server(says(b"HTTP/1.1 200 OK\r\n\r\n")) as there, client(OPEN) as web:
        error = failure(lambda: web.get(f"https://127.0.0.1:{there.port}/", connect_timeout=PATIENCE))
        # a server that waits for a request never reads our greeting as one
        assert error.kind in (HttpFailure.TLS, HttpFailure.CONNECT)


def _hangs_up(visitor: Visitor) -> None:
    visitor.receive()


def _silent(visitor: Visitor) -> None:
    visitor.until_gone()


def _drips(visitor: Visitor) -> None:
    visitor.receive()
    visitor.send(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB begins
    visitor.drip(b"\x02")


@pytest.mark.parametrize("script", [_hangs_up, _silent, _drips])
def test_a_handshake_that_does_not_come_to_an_end_is_no_verdict_about_who_it_is(
    authority: Authority, script: Callable[[Visitor], None]
) -> None:
    with server(script) as there, client(OPEN) as web:
        error = failure(lambda: web.get(f"https://127.0.0.1:{there.port}/", connect_timeout=PATIENCE))
        assert error.kind is HttpFailure.CONNECT


def test_from_https_to_http_is_not_followed_and_back_is(authority: Authority) -> None:
    context = authority.server_for("127.0.0.1")
    with server(mirror()) as plain, client(OPEN) as web:
        with server(redirects(lambda request: plain.url), tls=context) as secure:
            assert kind(lambda: web.get(secure.url)) is HttpFailure.REDIRECT
            assert plain.connections == 0
        with server(mirror(), tls=context) as secure, server(redirects(lambda request: secure.url)) as first:
            assert everything(web.get(first.url)) == DATA


@pytest.fixture
def endless(authority: Authority) -> Iterator[str]:
    """The URL of a body over TLS that never ends."""

    def script(visitor: Visitor) -> None:
        if visitor.request() is not None:
            visitor.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
            while visitor.send(bytes(1 << 16)):
                pass

    with server(script, tls=authority.server_for("127.0.0.1")) as there:
        yield there.url


def test_an_abort_over_tls_gives_out_no_byte_that_was_not_decrypted(endless: str) -> None:
    with client(OPEN) as web:
        answer = web.get(endless)
        wrong: list[bytes] = []
        ended = threading.Event()
        started = threading.Event()

        def read() -> None:
            buffer = memoryview(bytearray(1 << 16))

            def rest() -> None:
                while count := answer.readinto(buffer):
                    if any(buffer[:count]):
                        wrong.append(bytes(buffer[:count]))
                    started.set()

            for _ in range(3):
                failure(rest)
            ended.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert started.wait(30)
        answer.abort()
        thread.join(30)
        assert ended.is_set()
        assert wrong == []


@pytest.mark.parametrize("where", ["handshake", "head", "body"])
def test_whatever_waits_over_tls_is_ended_from_another_thread(authority: Authority, where: str) -> None:
    waiting = threading.Event()

    def script(visitor: Visitor) -> None:
        if where == "handshake":
            visitor.receive()
        elif visitor.request() is not None and where == "body":
            visitor.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        if where != "body":
            waiting.set()
        visitor.until_gone()

    context = None if where == "handshake" else authority.server_for("127.0.0.1")
    with server(script, tls=context) as there, client(OPEN) as web:

        def get() -> None:
            url = f"https://127.0.0.1:{there.port}"
            answer = web.get(url, connect_timeout=600, stall_timeout=600)
            assert answer.readinto(bytearray(4)) == 4
            waiting.set()
            answer.readinto(bytearray(4))

        kinds: list[HttpFailure] = []
        thread = threading.Thread(target=lambda: kinds.append(kind(get)))
        thread.start()
        assert waiting.wait(30)
        web.close()
        thread.join(30)
        assert not thread.is_alive()
        assert len(kinds) == 1


def test_a_body_that_is_cut_is_broken_over_tls_too(authority: Authority) -> None:
    """Without a length only TLS tells an end from a cut; with one, we count."""
    with (
        server(
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), tls=authority.server_for("127.0.0.1")
        ) as there,
        client(OPEN) as web,
    ):
        answer = web.get(there.url)
        assert kind(lambda: everything(answer)) is HttpFailure.BROKEN
