"""Small files from web servers: what users of `download`, `read` and `UrlSource` get to see."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from http_kit import Contacts, Visitor, client, mirror, once, says, server

from samara.registry import web
from samara.registry.http import HttpError, HttpFailure
from samara.registry.web import UrlSource, download, is_url, read
from samara.schemas.errors import NetworkError, NotFoundError, UsageError
from samara.schemas.networks import NetworkPolicy, parse_networks

DATA = bytes(range(256)) * 1024


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_file_comes_whole_or_one_byte_too_long() -> None:
    with server(mirror(DATA)) as there:
        assert download(f"{there.url}/x") == DATA
        assert download(f"{there.url}/x", limit=len(DATA)) == DATA
        assert download(f"{there.url}/x", limit=1000) == DATA[:1001]


def test_who_stops_reading_lets_go_of_the_connection() -> None:
    gone = threading.Event()

    def endless(visitor: Visitor) -> None:
        if visitor.request() is not None:
            visitor.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while visitor.send(DATA):
                pass
            gone.set()

    with server(endless) as there:
        assert len(download(there.url, limit=10)) == 11
        assert gone.wait(30)
        gone.clear()
        pieces = read(there.url)
        assert next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert gone.wait(30)


def test_a_client_that_is_given_is_used_again_and_stays_open() -> None:
    contacts = Contacts()
    with server(mirror(DATA)) as there, client(contacts=contacts) as mine:
        for _ in range(3):
            assert download(f"{there.url}/x", client=mine) == DATA
        source = UrlSource(there.url, client=mine)
        pieces = source.read("root.json")
        assert pieces is not None
        assert b"".join(pieces) == DATA
        assert there.requests[-1].target == "/root.json"
        assert len(contacts) == 1


def test_the_clients_policy_holds() -> None:
    with server(mirror(DATA)) as there, client(NetworkPolicy(only=parse_networks("10.0.0.0/8"))) as mine:
        with pytest.raises(HttpError, match="outside the networks allowed") as caught:
            download(there.url, client=mine)
        assert caught.value.kind is HttpFailure.POLICY
        assert there.connections == 0


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_not_found(status: int) -> None:
    with server(once(lambda visitor, _: visitor.answer(status))) as there:
        with pytest.raises(NotFoundError, match=f"is not there \\(HTTP {status}\\)"):
            download(there.url)
        assert UrlSource(there.url).read("x") is None


def test_forbidden_means_absent_for_metadata_alone() -> None:
    with server(once(lambda visitor, _: visitor.answer(403))) as there:
        assert UrlSource(there.url).read("x") is None
        with pytest.raises(NetworkError, match="HTTP 403"):
            download(there.url)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_server_in_trouble_is_the_networks_fault(status: int) -> None:
    with server(once(lambda visitor, _: visitor.answer(status, b"", Retry_After="9"))) as there:
        with pytest.raises(HttpError, match=f"can't get {there.url} .*HTTP {status}") as caught:
            download(there.url)
        assert caught.value.retry_after == 9
        with pytest.raises(NetworkError):
            UrlSource(there.url).read("x")


def test_a_file_that_ends_early_is_not_taken() -> None:
    half = says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    with server(half) as there, pytest.raises(NetworkError, match="ended early, after 4 bytes"):
        download(there.url)


@pytest.mark.parametrize(
    "url", ["http://", "http://127.0.0.1:x/", "http://127.0.0.1/a b", "http://a@127.0.0.1/", "http://[/"]
)
def test_what_is_no_url_is_the_users_mistake(url: str) -> None:
    assert is_url(url)
    with pytest.raises(UsageError, match="not a URL"):
        download(url)
    with pytest.raises(UsageError, match="not a URL"):
        UrlSource(url).read("x")


def test_what_is_an_url() -> None:
    assert is_url("https://a.example/x")
    assert not any(is_url(text) for text in ("ftp://a.example/", "a/b", "/http://", "httpx://a", "magnet:?x"))


def drips_a_body(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        visitor.drip(b"x", every=0.02)


def drips_a_head(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.drip(b"HTTP/1.1 200 OK\r\nX: ", every=0.02)


@pytest.mark.parametrize("script", [drips_a_body, drips_a_head])
def test_who_drips_is_given_up_long_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[Visitor], None]
) -> None:
    monkeypatch.setattr(web, "SLOW_AFTER", 0.4)
    monkeypatch.setattr(web, "TIMEOUT", 0.4)
    with server(script) as there:
        with pytest.raises(HttpError, match="can't get") as caught:
            download(there.url)
        assert caught.value.kind is HttpFailure.STALLED


def test_a_slow_reader_is_not_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOW_AFTER", 0.1)
    monkeypatch.setattr(web, "SLOWEST", 1e9)  # no server is that fast, if it is asked
    monkeypatch.setattr(web, "_CHUNK", 1 << 10)
    pause = threading.Event()
    with server(mirror(DATA[:4096])) as there:
        data = b""
        for piece in read(there.url):
            data += piece
            pause.wait(0.06)
        assert data == DATA[:4096]


def test_a_file_must_be_there_by_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "DEADLINE", 0.0)
    with server(mirror(DATA)) as there, pytest.raises(HttpError, match="not there after"):
        download(there.url)
