"""Torrents, announces and answers to test a tracker with. No test in here."""

from __future__ import annotations

import hashlib
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import quote

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.tracker import Rules, Tracker
from samara.registry.tracker.values import Announce, Event, Torrent
from samara.schemas.bittorrent import bdecode, parse_blob_torrent


def torrent(number: int = 0) -> Torrent:
    """One that nobody has."""
    name = b"torrent %d" % number
    return Torrent(
        b3="b3:" + hashlib.blake2s(name).hexdigest(), v1=hashlib.sha1(name).digest(), v2=hashlib.sha256(name).digest()
    )


def tracker(*torrents: Torrent, rules: Rules | None = None, seed: int = 1) -> Tracker:
    """A tracker for these, with dice of its own."""
    made = Tracker(rules, random=Random(seed))
    made.publish(torrents or (torrent(),))
    return made


def told(
    of: Torrent | None = None,
    *,
    who: int = 1,
    port: int = 6881,
    whole: bool = False,
    event: Event | None = Event.STARTED,
    wanted: int | None = None,
    key: bytes | None = None,
    v2: bool = False,
    ip: bytes | None = None,
) -> Announce:
    """An announce; `who` stands for a client: its peer id, and its key unless another one is given."""
    of = of or torrent()
    return Announce(
        infohash=of.v2[:20] if v2 else of.v1,
        peer_id=peer_id(who),
        port=port,
        is_whole=whole,
        event=event,
        wanted=wanted,
        key=b"%08x" % who if key is None else key,
        ip=ip,
    )


def peer_id(who: int) -> bytes:
    """20 bytes."""
    return b"-TT0001-%012d" % who


def ip4(number: int) -> bytes:
    """An address for every number."""
    return (0x0A000000 + number).to_bytes(4, "big")


def ip6(net48: int, net64: int = 0, host: int = 1) -> bytes:
    """An address for every site, network and host."""
    return (0x2A00_0000_0000 + net48).to_bytes(6, "big") + net64.to_bytes(2, "big") + host.to_bytes(8, "big")


def endpoints(compact: bytes, width: int = 6) -> list[tuple[bytes, int]]:
    """(address, port) of each."""
    assert len(compact) % width == 0
    rows = [compact[at : at + width] for at in range(0, len(compact), width)]
    return [(row[:-2], int.from_bytes(row[-2:], "big")) for row in rows]


@contextmanager
def tracking(folder: Path, *torrents: Torrent, rules: Rules | None = None) -> Iterator[tuple[Service, str]]:
    """A registry's server whose tracker has these torrents: (its service, announce URL)."""
    home = Home(folder)
    with Index.open(home) as index:
        settings = Settings(origin="http://127.0.0.1:1")
        service = Service(home=home, index=index, settings=settings, tracker=tracker(*torrents, rules=rules))
        with RunningServer(create_app(service)) as server:
            yield service, f"{server.url}/announce"


def announced(service: Service, outcome: str = "listed") -> int:
    """Announces that ended so, so far."""
    return int(service.metrics.registry.get_sample_value("samara_announces_total", {"outcome": outcome}) or 0)


def torrent_of(data: bytes, b3: str) -> Torrent:
    """A .torrent as a tracker knows it."""
    parsed = parse_blob_torrent(data)
    return Torrent(b3=b3, v1=bytes.fromhex(parsed.v1), v2=bytes.fromhex(parsed.v2))


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An answer as a client reads it."""

    status: int
    headers: Mapping[str, str]
    told: dict[bytes, object]

    @property
    def failure(self) -> str | None:
        """Why it was refused."""
        reason = self.told.get(b"failure reason")
        assert reason is None or isinstance(reason, bytes)
        return None if reason is None else reason.decode()

    def number(self, name: str) -> int:
        """A number in it."""
        value = self.told[name.encode()]
        assert isinstance(value, int)
        return value

    @property
    def peers(self) -> list[tuple[str, int]]:
        """(address, port) of each, IPv4 first."""
        found = []
        for name, family, width in ((b"peers", socket.AF_INET, 6), (b"peers6", socket.AF_INET6, 18)):
            compact = self.told.get(name, b"")
            assert isinstance(compact, bytes)
            found += [(socket.inet_ntop(family, host), port) for host, port in endpoints(compact, width)]
        return found


def query(**fields: object) -> str:
    """A query string; bytes are percent-encoded, None is left out, a tuple repeats its name."""
    parts = []
    for name, value in fields.items():
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                parts.append(f"{name}=" + quote(one if isinstance(one, bytes) else str(one), safe=""))
    return "&".join(parts)


def announce_query(
    of: Torrent, other: Mapping[str, object] | None = None, *, who: int = 1, v2: bool = False, **fields: object
) -> str:
    """What a client sends, with `other` fields than usual."""
    usual: dict[str, object] = {
        "info_hash": of.v2[:20] if v2 else of.v1,
        "peer_id": peer_id(who),
        "port": 6881,
        "uploaded": 0,
        "downloaded": 0,
        "left": 1000,
        "compact": 1,
        "key": f"{who:08x}",
    }
    return query(**{**usual, **(other or {}), **fields})


def ask(url: str, *, headers: Mapping[str, str] | None = None) -> Heard:
    """GET, and read the answer as bencoding."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = bdecode(answer.read())
        assert isinstance(body, dict)
        return Heard(status=answer.status, headers=dict(answer.headers.items()), told=dict(body))
