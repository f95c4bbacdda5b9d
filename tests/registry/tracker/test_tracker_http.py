"""/announce and /scrape of a real server over a registry where models were published, asked by HTTP."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_kit import ORIGIN, listed_torrents, registry
from tracker_kit import announce_query, ask, query, torrent, torrent_of

from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.tracker import Tracker, Upkeep
from samara.registry.tracker.queries import parse_announce
from samara.registry.tracker.values import Announce, Torrent
from samara.schemas.bittorrent import bdecode


@dataclass(frozen=True, kw_only=True)
class Running:
    """A registry that serves."""

    service: Service
    url: str

    @property
    def torrents(self) -> list[Torrent]:
        """What it has published, as clients know it."""
        return [torrent_of(data, b3) for b3, data in listed_torrents(self.service.index).items()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with (
        registry(
            tmp_path_factory.mktemp("tracker"), settings=Settings(origin=ORIGIN, rates=Rates(announces=0))
        ) as service,
        Upkeep(service.tracker, service.listings, clock=service.clock),
        RunningServer(create_app(service)) as server,
    ):
        yield Running(service=service, url=server.url)


@pytest.fixture
def one(running: Running) -> Iterator[Torrent]:
    """A published torrent whose swarm is empty."""
    first = running.torrents[0]
    yield first
    running.service.tracker.publish([])
    running.service.tracker.publish(running.torrents)


def test_peers_find_each_other(running: Running, one: Torrent) -> None:
    first = ask(f"{running.url}/announce?" + announce_query(one, who=1, port=7001, left=0, event="started"))
    assert (first.status, first.peers) == (200, [])
    assert first.headers["content-type"].startswith("text/plain")
    assert first.number("interval") == 1800
    second = ask(f"{running.url}/announce?" + announce_query(one, who=2, port=7002, v2=True, left=5))
    assert second.peers == []  # the first came by the other infohash
    third = ask(f"{running.url}/announce?" + announce_query(one, who=2, port=7002, left=5))
    assert third.peers == [("127.0.0.1", 7001)]
    assert (third.number("complete"), third.number("incomplete")) == (1, 1)
    assert third.told[b"external ip"] == bytes([127, 0, 0, 1])
    scraped = ask(f"{running.url}/scrape?" + query(info_hash=(one.v1, one.v2[:20], b"x" * 20)))
    files = scraped.told[b"files"]
    assert isinstance(files, dict)
    assert set(files) == {one.v1, one.v2[:20]}
    assert files[one.v1] == {b"complete": 1, b"downloaded": 0, b"incomplete": 1}


def test_every_published_blob_has_a_swarm_and_nothing_else_has(running: Running) -> None:
    assert len(running.torrents) >= 4
    for published in running.torrents:
        for v2 in (False, True):
            assert ask(f"{running.url}/announce?" + announce_query(published, v2=v2, event="stopped")).failure is None
    refused = ask(f"{running.url}/announce?" + announce_query(torrent(404)))
    assert refused.failure == "not published here"
    assert refused.number("retry in") > 0
    assert ask(f"{running.url}/scrape?" + query(info_hash=torrent(404).v1)).told[b"files"] == {}


def test_a_claimed_address_is_not_believed(running: Running, one: Torrent) -> None:
    for number, claim in enumerate(("ip", "ipv4", "ipv6")):
        asked = announce_query(one, {claim: "192.0.2.7"}, who=number, port=7100 + number)
        ask(
            f"{running.url}/announce?{asked}",
            headers={"X-Forwarded-For": "192.0.2.8", "Forwarded": "for=192.0.2.9", "X-Real-IP": "192.0.2.10"},
        )
    assert set(ask(f"{running.url}/announce?" + announce_query(one, who=9)).peers) == {
        ("127.0.0.1", 7100 + number) for number in range(3)
    }


def test_a_web_server_in_front_says_who_called(tmp_path: Path) -> None:
    settings_ = Settings(origin=ORIGIN, proxies=(ip_network("127.0.0.0/8"),))
    with (
        registry(tmp_path, settings=settings_) as service,
        Upkeep(service.tracker, service.listings),
        RunningServer(create_app(service)) as server,
    ):
        one = Running(service=service, url=server.url).torrents[0]
        forwarded = {"X-Forwarded-For": "203.0.113.9, 198.51.100.4"}  # the last is whom the proxy saw
        asked = announce_query(one, who=1, ip="192.0.2.7", port=7001)
        ask(f"{server.url}/announce?{asked}", headers=forwarded)
        own = announce_query(one, who=2, ip="192.0.2.7", port=7002)
        ask(f"{server.url}/announce?{own}")
        for number, name in enumerate(("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")):  # not for itself
            relayed = announce_query(one, who=10 + number, ip="192.0.2.99", port=7010 + number)
            ask(f"{server.url}/announce?{relayed}", headers={name: "unknown"})
        seen = ask(f"{server.url}/announce?" + announce_query(one, who=3, port=7003)).peers
    relayed_ones = {("127.0.0.1", 7010 + number) for number in range(4)}
    assert set(seen) == {("198.51.100.4", 7001), ("192.0.2.7", 7002)} | relayed_ones


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "?",
        "?&&&&",
        "?info_hash=%",
        "?info_hash=" + "%41" * 20,
        "?" + announce_query(torrent(), port=0),
        "?" + announce_query(torrent(), port=80),
        "?" + announce_query(torrent(), {"peer_id": b"\0" * 21}),
        "?" + announce_query(torrent(), {"info_hash": (b"a" * 20, b"b" * 20)}),
        "?" + "x" * 3000,
        "?" + "&" * 2000,
        "?%00=%0d%0aX: y",
    ],
)
def test_malformed_announces_are_told_why(running: Running, asked: str) -> None:
    for path in ("announce", "scrape"):
        heard = ask(f"{running.url}/{path}{asked.replace(' ', '%20')}")
        if path == "announce" or b"files" not in heard.told:
            assert heard.failure
            assert "\r" not in heard.failure
            assert len(heard.failure) < 300


def test_only_get_will_do(running: Running) -> None:
    for path in ("announce", "scrape"):
        request = urllib.request.Request(f"{running.url}/{path}", data=b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 405
        refused.value.close()


_RAW = st.text(
    alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=200
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(["info_hash", "peer_id", "port", "left", "event", "numwant", "key", "ip", "compact", "left[]"]),
    st.one_of(st.binary(max_size=30), st.sampled_from([b"6881", b"0", b"-1", b"started", b"stopped", b"a" * 20])),
).map(lambda fields: "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items()))


@given(path=st.sampled_from(["announce", "scrape"]), asked=st.one_of(_RAW, _FIELDS))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_breaks_it(running: Running, path: str, asked: str) -> None:
    """Whatever bytes come: 200, bencoded, whole, and the connection lives."""
    host, port = running.url.removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as connection,
        connection.makefile("rb") as answers,
    ):
        for _ in range(2):
            connection.sendall(f"GET /{path}?{asked} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
            assert answers.readline().startswith(b"HTTP/1.1 200 ")
            fields = dict(line.lower().split(b": ", 1) for line in iter(answers.readline, b"\r\n"))
            assert isinstance(bdecode(answers.read(int(fields[b"content-length"]))), dict)


def test_announces_from_many_threads_are_all_counted(running: Running, one: Torrent) -> None:
    many = running.service.tracker.rules.per_address

    def announce(who: int) -> None:
        ask(f"{running.url}/announce?" + announce_query(one, who=who, port=20_000 + who))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(announce, range(many)))
    assert ask(f"{running.url}/announce?" + announce_query(one, who=0, port=20_000)).number("incomplete") == many


def test_a_flood_from_one_address_fills_no_swarm(running: Running, one: Torrent) -> None:
    tracker = running.service.tracker
    ask(f"{running.url}/announce?" + announce_query(one, who=1, port=7001))
    honest = tracker.announce(parsed(announce_query(one, who=2, port=7002)), bytes([10, 0, 0, 2]), 0.0)
    assert honest is not None
    for who in range(300):
        ask(f"{running.url}/announce?" + announce_query(one, who=100 + who, port=20_000 + who, key="", left=who % 2))
    counts = tracker.counts(one.b3)
    assert counts.peers == tracker.rules.per_address + 1
    assert ("10.0.0.2", 7002) in tracker.peers(one.v2.hex(), most=200)


def parsed(asked: str) -> Announce:
    return parse_announce(asked.encode())


def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    with (
        registry(tmp_path, settings=Settings(origin=ORIGIN, rates=Rates(announces=20))) as service,
        Upkeep(service.tracker, service.listings),
        RunningServer(create_app(service)) as server,
    ):
        one = Running(service=service, url=server.url).torrents[0]
        heard = [ask(f"{server.url}/announce?" + announce_query(one, who=who, port=7000 + who)) for who in range(40)]
        scraped = ask(f"{server.url}/scrape?" + query(info_hash=one.v1))
    refused = [answer for answer in heard if answer.failure is not None]
    assert 15 <= len(refused) <= 20
    for answer in (*refused, scraped):
        assert (answer.failure or "").startswith("too many requests")
        assert answer.number("retry in") == 1


def test_what_is_published_later_is_announced_later(running: Running, one: Torrent) -> None:
    late = Tracker()
    upkeep = Upkeep(late, running.service.listings)
    assert late.announce(parsed(announce_query(one)), bytes([10, 0, 0, 1]), 0.0) is None
    upkeep.look()
    assert late.announce(parsed(announce_query(one)), bytes([10, 0, 0, 1]), 0.0) is not None
    assert late.totals().published == len(running.torrents)
