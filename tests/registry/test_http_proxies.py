"""HTTP proxies: which host goes by way of one, and what one may not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from http_kit import (
    DATA,
    PATIENCE,
    Authority,
    Contacts,
    Visitor,
    client,
    everything,
    failure,
    kind,
    mirror,
    once,
    proxy,
    redirects,
    says,
    server,
)

from samara.registry.http import HttpClient, HttpFailure, Proxies
from samara.registry.http.proxies import Proxy
from samara.registry.http.urls import parse_url
from samara.schemas.networks import NetworkPolicy, parse_networks

HERE = {"mirror.example": "127.0.0.1"}  # what the proxy finds, and nobody else


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return made


def test_http_goes_through_the_proxy_which_looks_the_name_up() -> None:
    contacts = Contacts()
    with (
        server(mirror()) as there,
        server(proxy(HERE)) as between,
        client(proxies=Proxies(http=between.url), contacts=contacts) as web,
    ):
        url = f"http://mirror.example:{there.port}/a?b"
        answer = web.get(url, start=5, end=50)
        assert (answer.url, answer.endpoint) == (url, f"127.0.0.1:{between.port}")
        assert everything(answer) == DATA[5:50]
        assert between.requests[0].target == url
        assert there.requests[0].target == "/a?b"
        assert there.requests[0].headers["host"] == f"mirror.example:{there.port}"
        (contact,) = contacts
        assert (contact.host, contact.endpoint, contact.proxied) == (
            "mirror.example",
            f"127.0.0.1:{between.port}",
            True,
        )


def test_https_goes_through_a_tunnel_and_the_mirror_itself_proves_who_it_is(authority: Authority) -> None:
    with (
        server(mirror(), tls=authority.server_for("mirror.example")) as there,
        server(proxy(HERE)) as between,
        client(proxies=Proxies(https=between.url)) as web,
    ):
        url = f"https://mirror.example:{there.port}/x"
        for _ in range(2):
            assert everything(web.get(url)) == DATA
        assert [(one.method, one.target) for one in between.requests] == [("CONNECT", f"mirror.example:{there.port}")]
        assert there.connections == 1


def test_a_proxy_that_plays_the_mirror_is_found_out(authority: Authority, tmp_path: Path) -> None:
    with (
        server(mirror(), tls=Authority(tmp_path, "unknown").server_for("mirror.example")) as there,
        server(proxy(HERE)) as between,
        client(proxies=Proxies(https=between.url)) as web,
    ):
        assert kind(lambda: web.get(f"https://mirror.example:{there.port}/")) is HttpFailure.TLS
        assert there.requests == []


def test_a_proxy_gets_its_password_and_nobody_else_does(authority: Authority) -> None:
    with (
        server(mirror()) as plain,
        server(mirror(), tls=authority.server_for("mirror.example")) as secure,
        server(proxy(HERE, secret="anna:p@ss/word")) as between,
    ):
        whole = f"http://anna:p%40ss%2Fword@127.0.0.1:{between.port}"
        with client(proxies=Proxies(http=whole, https=whole)) as web:
            assert everything(web.get(f"http://mirror.example:{plain.port}/")) == DATA
            assert everything(web.get(f"https://mirror.example:{secure.port}/")) == DATA
        for there in (plain, secure):
            assert not any("proxy" in name for request in there.requests for name in request.headers)
        with client(proxies=Proxies(http=between.url, https=between.url)) as web:
            for scheme, there in (("http", plain), ("https", secure)):
                error = failure(lambda url=f"{scheme}://mirror.example:{there.port}/": web.get(url))  # type: ignore[misc]
                assert (error.kind, error.status) == (HttpFailure.PROXY, 407)
                assert "p@ss" not in str(error)


@pytest.mark.parametrize("status", [403, 502, 504])
def test_a_proxy_that_will_not_connect_is_told_as_that(status: int) -> None:
    with server(proxy(HERE, refuses=status)) as between, client(proxies=Proxies(https=between.url)) as web:
        error = failure(lambda: web.get("https://mirror.example/"))
        assert (error.kind, error.status) == (HttpFailure.PROXY, status)


def _drips(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.send(b"HTTP/1.1 200 Connected\r\n")
        visitor.drip(b"X-Endless: yes\r\n")


def _silent(visitor: Visitor) -> None:
    visitor.until_gone()


def _endless(visitor: Visitor) -> None:
    if visitor.request() is not None:
        while visitor.send(b"X" * 4096):
            pass


@pytest.mark.parametrize(
    "script",
    [
        says(b""),
        says(b"SSH-2.0\r\n\r\n"),
        says(b"HTTP/1.1 200 OK\r\n"),
        says(b"HTTP/1.1 200 OK\r\n\r\nalready something"),
        says(b"HTTP/1.1 2000 OK\r\n\r\n"),
        _drips,
        _silent,
    ],
    ids=range(7),
)
def test_a_proxy_that_answers_nonsense_or_never_is_given_up(script: object) -> None:
    with server(script) as between, client(proxies=Proxies(https=between.url)) as web:  # type: ignore[arg-type]
        assert kind(lambda: web.get("https://mirror.example/", connect_timeout=PATIENCE)) is HttpFailure.PROXY


def test_a_proxy_that_talks_without_end_is_given_up_before_the_time_is_over() -> None:
    with server(_endless) as between, client(proxies=Proxies(https=between.url)) as web:
        error = failure(lambda: web.get("https://mirror.example/"))
        assert error.kind is HttpFailure.PROXY
        assert "no answer that makes sense" in str(error)


def test_no_proxy_there_is_a_failure_of_the_proxy() -> None:
    with server(mirror()) as gone:
        port = gone.port
    for url in (f"http://127.0.0.1:{port}", "http://no-such-proxy.example:3128"):
        with client(proxies=Proxies(http=url)) as web:
            assert kind(lambda: web.get("http://mirror.example/")) is HttpFailure.PROXY


@pytest.mark.parametrize(
    "proxy_url", ["socks5://127.0.0.1:1080", "https://127.0.0.1:3128", "http://", "http://127.0.0.1:0", "http://[::1"]
)
def test_a_proxy_we_cannot_talk_to_is_not_passed_over(proxy_url: str) -> None:
    contacts = Contacts()
    with client(NetworkPolicy(private=True), proxies=Proxies(http=proxy_url), contacts=contacts) as web:
        error = failure(lambda: web.get("http://127.0.0.1/"))
        assert error.kind is HttpFailure.PROXY
        assert contacts == []


def test_the_message_about_a_proxy_never_holds_its_password() -> None:
    for url in ("socks5://anna:secret@127.0.0.1:1080", "http://anna:secret@[::1", "anna:sec@ret@:99999"):
        with client(proxies=Proxies(http=url)) as web:
            error = failure(lambda: web.get("http://mirror.example/"))
            assert "sec" not in str(error)


# --- the policy behind a proxy --------------------------------------------------------------------------------------


def test_a_proxy_may_not_be_used_to_reach_local_addresses_for_a_stranger() -> None:
    with (
        server(mirror()) as there,
        server(proxy(HERE)) as between,
        client(proxies=Proxies(http=between.url, https=between.url)) as web,
    ):
        local = [there.url, f"http://localhost:{there.port}/", f"http://x.LOCALHOST.:{there.port}/", "https://[::1]/"]
        for url in [*local, "http://169.254.169.254/", "http://[::ffff:127.0.0.1]/", "http://192.168.1.1/"]:
            assert kind(lambda url=url: web.get(url)) is HttpFailure.POLICY, url  # type: ignore[misc]
        assert between.connections == 0
        assert everything(web.get(there.url, vouched=True)) == DATA


def test_nor_by_a_redirect() -> None:
    with (
        server(mirror()) as secret,
        server(redirects(lambda request: secret.url)) as there,
        server(proxy(HERE)) as between,
        client(proxies=Proxies(http=between.url)) as web,
    ):
        assert kind(lambda: web.get(f"http://mirror.example:{there.port}/")) is HttpFailure.POLICY
        assert secret.connections == 0


def test_the_proxy_itself_must_be_in_the_users_networks() -> None:
    with server(mirror()) as there, server(proxy(HERE)) as between:
        url = f"http://mirror.example:{there.port}/"
        with client(NetworkPolicy(only=parse_networks("10.0.0.0/8")), proxies=Proxies(http=between.url)) as web:
            assert kind(lambda: web.get(url)) is HttpFailure.POLICY
            assert between.connections == 0
        with client(NetworkPolicy(only=parse_networks("127.0.0.0/8")), proxies=Proxies(http=between.url)) as web:
            assert everything(web.get(url)) == DATA


# --- the environment ------------------------------------------------------------------------------------------------


def test_the_environments_proxy_is_used_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with server(mirror()) as there, server(proxy(HERE)) as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        with HttpClient(NetworkPolicy()) as web:
            assert everything(web.get(f"http://mirror.example:{there.port}/")) == DATA
            assert everything(web.get(there.url, vouched=True)) == DATA
        assert (len(between.requests), there.connections) == (1, 2)


ONE, TWO = "http://one.example:1", "http://two.example:2"


@pytest.mark.parametrize(
    ("environment", "http", "https"),
    [
        ({}, "", ""),
        ({"HTTP_PROXY": ONE}, ONE, ""),
        ({"http_proxy": ONE, "HTTP_PROXY": TWO}, ONE, ""),
        ({"HTTPS_PROXY": ONE}, "", ONE),
        ({"ALL_PROXY": ONE}, ONE, ONE),
        ({"all_proxy": ONE, "HTTPS_PROXY": TWO}, ONE, TWO),
        ({"HTTP_PROXY": ONE, "REQUEST_METHOD": "GET"}, "", ""),
        ({"http_proxy": ONE, "REQUEST_METHOD": "GET"}, ONE, ""),
        ({"HTTP_PROXY": " ", "http_proxy": ""}, "", ""),
    ],
)
def test_the_variables_say_which_proxy_is_for_what(environment: dict[str, str], http: str, https: str) -> None:
    found = Proxies.from_environment(environment)
    assert (found.http, found.https) == (http, https)


@pytest.mark.parametrize(
    ("exceptions", "url", "direct"),
    [
        ("*", "http://any.example/", True),
        ("", "http://any.example/", False),
        ("example.org", "http://example.org/", True),
        ("example.org", "https://www.example.org/", True),
        (".example.org", "http://www.example.org/", True),
        ("*.example.org", "http://www.example.org/", True),
        ("EXAMPLE.org.", "http://www.Example.ORG./", True),
        ("example.org", "http://notexample.org/", False),
        ("example.org", "http://example.org.evil.example/", False),
        ("a.example,b.example", "http://b.example/", True),
        ("a.example  b.example", "http://b.example/", True),
        ("example.org:80", "http://example.org/", True),
        ("example.org:80", "https://example.org/", False),
        ("example.org:8080", "http://example.org:8080/", True),
        ("127.0.0.1", "http://127.0.0.1:99/", True),
        ("127.0.0.1", "http://127.0.0.11/", False),
        ("127.0.0.1:99", "http://127.0.0.1:98/", False),
        ("10.0.0.0/8", "http://10.255.0.1/", True),
        ("10.1.2.3/8", "http://10.255.0.1/", True),
        ("10.0.0.0/8", "http://11.0.0.1/", False),
        ("10.0.0.0/8", "http://ten.example/", False),
        ("fd00::/8", "http://[fd12::1]/", True),
        ("::1", "http://[::1]:8080/", True),
        ("[::1]", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8081/", False),
        ("0.1", "http://127.0.0.1/", False),
        (",:,[,/8,.,*.", "http://any.example/", False),
    ],
)
def test_no_proxy_lists_names_addresses_and_networks(exceptions: str, url: str, direct: bool) -> None:
    found = Proxies.from_environment({"all_proxy": ONE, "no_proxy": exceptions})
    assert (found.proxy_for(parse_url(url)) is None) == direct


def test_a_proxys_url_may_be_short() -> None:
    target = parse_url("http://any.example/")
    assert Proxies(http="proxy.example:3128").proxy_for(target) == Proxy(host="proxy.example", port=3128)
    assert Proxies(http="http://[::1]").proxy_for(target) == Proxy(host="::1", port=80)


def test_one_request_through_a_proxy_that_answers_itself(authority: Authority) -> None:
    """A page of its own instead of the object: a status like any other."""
    with (
        server(once(lambda visitor, _: visitor.answer(503, b"blocked", Retry_After="3"))) as between,
        client(proxies=Proxies(http=between.url)) as web,
    ):
        error = failure(lambda: web.get("http://mirror.example/"))
        assert (error.kind, error.status, error.retry_after) == (HttpFailure.STATUS, 503, 3.0)
