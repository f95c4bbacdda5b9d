"""Announces and scrapes out of query strings, and answers into bencoding: whatever is asked, nothing but a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracker_kit import announce_query, ip4, ip6, peer_id, query, torrent

from samara.registry.tracker.answers import announce_answer, failure, scrape_answer
from samara.registry.tracker.queries import parse_announce, parse_scrape
from samara.registry.tracker.values import Answer, Counts, Event, Rules
from samara.schemas.bittorrent import bdecode
from samara.schemas.errors import MalformedError

ONE = torrent()


def test_what_a_client_sends_is_read() -> None:
    """As qBittorrent sends it."""
    sent = announce_query(ONE, left=0, event="completed", numwant=80, no_peer_id=1, supportcrypto=1, redundant=0)
    announce = parse_announce(sent.encode())
    assert announce.infohash == ONE.v1
    assert announce.peer_id == peer_id(1)
    assert (announce.port, announce.is_whole, announce.event, announce.wanted) == (6881, True, Event.COMPLETED, 80)
    assert (announce.key, announce.ip) == (b"00000001", None)


def test_bytes_may_be_escaped_or_not() -> None:
    raw = b"info_hash=" + bytes(range(0x41, 0x55)) + b"&peer_id=%2dTT0001%2D000000000001&port=6881&left=1"
    announce = parse_announce(raw)
    assert announce.infohash == bytes(range(0x41, 0x55))
    assert announce.peer_id == peer_id(1)
    assert parse_announce(raw.replace(b"%2dTT", b"+TT")).peer_id[:1] == b"+"  # no form: a plus is a plus


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"info_hash": None}, "info_hash is missing"),
        ({"info_hash": b"short"}, "another length"),
        ({"info_hash": ONE.v2}, "another length"),
        ({"info_hash": (ONE.v1, ONE.v1)}, "given twice"),
        ({"peer_id": b"x" * 19}, "another length"),
        ({"peer_id": None}, "peer_id is missing"),
        ({"port": 0}, "not a port"),
        ({"port": 22}, "not a port"),
        ({"port": 65536}, "not a port"),
        ({"port": "-6881"}, "port is no number"),
        ({"port": "6881\r\nX: y"}, "port is no number"),
        ({"port": "１２３４"}, "port is no number"),
        ({"port": "9" * 5000}, "too long"),
        ({"port": None}, "port is no number"),
        ({"port": (6881, 6882)}, "given twice"),
        ({"left": "-1"}, "left is no number"),
        ({"left": "1e9"}, "left is no number"),
        ({"key": "k" * 65}, "key too long"),
    ],
)
def test_what_no_client_sends_is_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        parse_announce(announce_query(ONE, fields).encode())


def test_what_does_not_matter_is_not_looked_at() -> None:
    sent = announce_query(ONE, uploaded="-1", downloaded=("x", "y"), event="paused", numwant=-1, compact=0)
    announce = parse_announce(sent.encode())
    assert (announce.event, announce.wanted, announce.is_whole) == (None, None, False)


def test_claimed_addresses_are_read_but_nothing_else_is_one() -> None:
    for text, address in (
        ("10.1.2.3", bytes([10, 1, 2, 3])),
        ("2a00::1", bytes.fromhex("2a00") + bytes(13) + b"\x01"),
        ("example.org", None),
        ("10.1", None),
        ("", None),
        ("1.2.3.4\0", None),
        ("ä", None),
    ):
        assert parse_announce(announce_query(ONE, ip=text).encode()).ip == address


def test_a_scrape_names_what_it_wants_to_know() -> None:
    hashes = tuple(torrent(number).v1 for number in range(100))
    assert parse_scrape(query(info_hash=hashes).encode()) == hashes
    assert parse_scrape(query(info_hash=(hashes[0],) * 5).encode()) == hashes[:1]
    for bad in ("", "info_hash=", query(info_hash=b"x"), query(info_hash=tuple(torrent(n).v1 for n in range(101)))):
        with pytest.raises(MalformedError):
            parse_scrape(bad.encode())


def test_answers_are_canonical_bencoding() -> None:
    counts = Counts(seeders=3, leechers=2, completed=1)
    for peers6 in (b"", ip6(1) + b"\x1a\xe1"):
        for address in (ip4(1), ip6(1)):
            answer = Answer(counts=counts, peers=ip4(2) + b"\x1a\xe1", peers6=peers6)
            body = bdecode(announce_answer(answer, Rules(), address=address))
            assert isinstance(body, dict)
            assert body.get(b"peers6", b"") == peers6
            assert body[b"peers"] == ip4(2) + b"\x1a\xe1"
            assert body[b"external ip"] == address
            assert [body[name] for name in (b"complete", b"incomplete", b"downloaded", b"interval")] == [3, 2, 1, 1800]
    assert bdecode(scrape_answer({ONE.v1: counts}, Rules())) == {
        b"files": {ONE.v1: {b"complete": 3, b"downloaded": 1, b"incomplete": 2}},
        b"flags": {b"min_request_interval": 300},
    }
    soon = {b"failure reason": b"no", b"retry in": 5, b"interval": 300, b"min interval": 300}
    assert bdecode(failure("no", retry_in=5)) == soon


_NAMES = st.sampled_from([b"info_hash", b"peer_id", b"port", b"left", b"event", b"numwant", b"key", b"ip", b"", b"x"])
_VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"%41" * 20, b"6881", b"0", b"%", b"%4", b"%zz", b"%00" * 20, b"-1", b"1e3", b"\xff" * 20]),
)
_QUERIES = st.lists(st.tuples(_NAMES, _VALUES), max_size=12).map(
    lambda parts: b"&".join(name + b"=" + value for name, value in parts)
)


@given(st.one_of(_QUERIES, st.binary(max_size=300)))
def test_whatever_is_asked_is_read_or_refused(raw: bytes) -> None:
    for parse in (parse_announce, parse_scrape):
        try:
            parse(raw)
        except MalformedError as error:
            told = bdecode(failure(str(error)))
            assert isinstance(told, dict)
            assert len(str(error)) < 300
