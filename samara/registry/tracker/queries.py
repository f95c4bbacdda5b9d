"""Announces and scrapes out of raw query strings (BEP 3, 7, 23, 48). Pure.

Raw, because infohashes are percent-encoded bytes, no text, and a scrape repeats its parameter: what web frameworks make
of a query string loses both. Whatever comes in is bounded before it is looked at. A parameter that counts must be given
once; of `uploaded`, `downloaded`, `compact`, … nothing is believed or needed, so they aren't even read.
"""

from __future__ import annotations

import socket
from urllib.parse import unquote_to_bytes

from samara.registry.tracker.values import Announce, Event
from samara.schemas.errors import MalformedError

MAX_QUERY = 2048  # bytes of an announce: real ones have about 400
MAX_SCRAPE_QUERY = 8192
MAX_SCRAPED = 100  # infohashes in one scrape
LOWEST_PORT = 1024  # below are services' own: nobody's list of peers should make others call those
_MAX_KEY = 64

_READ = frozenset({b"info_hash", b"peer_id", b"port", b"left", b"event", b"numwant", b"key", b"ip"})
_EVENTS = {event.value: event for event in Event}


def parse_announce(query: bytes) -> Announce:
    """A query string → what is announced. Raises MalformedError."""
    if len(query) > MAX_QUERY:
        raise MalformedError("announce too long", expected=f"≤ {MAX_QUERY} bytes", actual=len(query))
    given: dict[bytes, bytes] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name in _READ:
            if name in given:
                raise MalformedError(f"{name.decode()} is given twice")
            given[name] = unquote_to_bytes(value) if b"%" in value else value
    event = _EVENTS.get(given.get(b"event", b""))
    key = given.get(b"key", b"")
    if len(key) > _MAX_KEY:
        raise MalformedError("key too long", expected=f"≤ {_MAX_KEY} bytes", actual=len(key))
    return Announce(
        infohash=_twenty(given, b"info_hash"),
        peer_id=_twenty(given, b"peer_id"),
        port=_port(given),
        is_whole=_number(given.get(b"left", b"1"), "left") == 0 or event is Event.COMPLETED,
        event=event,
        wanted=_wanted(given.get(b"numwant", b"")),
        key=key,
        ip=_address(given[b"ip"]) if b"ip" in given else None,
    )


def parse_scrape(query: bytes) -> tuple[bytes, ...]:
    """A query string → the infohashes asked for, each once. Raises MalformedError; nobody may ask for all."""
    if len(query) > MAX_SCRAPE_QUERY:
        raise MalformedError("scrape too long", expected=f"≤ {MAX_SCRAPE_QUERY} bytes", actual=len(query))
    found: dict[bytes, None] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"info_hash":
            infohash = unquote_to_bytes(value)
            if len(infohash) != 20:
                raise MalformedError("info_hash has another length", expected="20 bytes", actual=len(infohash))
            found[infohash] = None
    if not 1 <= len(found) <= MAX_SCRAPED:
        raise MalformedError("scrape of so many torrents", expected=f"1…{MAX_SCRAPED}", actual=len(found))
    return tuple(found)


def _twenty(given: dict[bytes, bytes], name: bytes) -> bytes:
    value = given.get(name)
    if value is None:
        raise MalformedError(f"{name.decode()} is missing")
    if len(value) != 20:
        raise MalformedError(f"{name.decode()} has another length", expected="20 bytes", actual=len(value))
    return value


def _port(given: dict[bytes, bytes]) -> int:
    port = _number(given.get(b"port", b""), "port")
    if not LOWEST_PORT <= port <= 65535:
        raise MalformedError("not a port that peers can be called at", expected=f"{LOWEST_PORT}…65535", actual=port)
    return port


def _number(text: bytes, name: str) -> int:
    if not 1 <= len(text) <= 20 or not text.isdigit():  # of bytes: ASCII digits alone
        raise MalformedError(f"{name} is no number", actual=repr(text[:24]))
    return int(text)


def _wanted(text: bytes) -> int | None:
    """None also for -1, which clients send when they don't care."""
    return int(text) if 1 <= len(text) <= 9 and text.isdigit() else None


def _address(text: bytes) -> bytes | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text.decode("ascii"))
        except (OSError, ValueError):
            continue
    return None
