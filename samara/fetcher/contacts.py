"""Whom one pull was in contact with, how each was found, what came and went: collected for its record. Pure.

Fed from the pull's one thread with the swarm's events, samples of open connections and the mirrors' counters; only
`http` and `asking` are called from other threads too. A block is credited to everybody who gave a piece of it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from samara.schemas.endpoints import format_endpoint
from samara.schemas.pull_record import EndpointRecord, Evidence, Found, Kind
from samara.seeder.swarm_events import BlockReceived, PeerBanned, PeerLost, PeerMet, SourceBytes, SwarmEvent

if TYPE_CHECKING:
    from samara.registry.http import Contact

Endpoint = tuple[str, int]
_PORTS = {"http": 80, "https": 443}


@dataclass(kw_only=True, slots=True)
class _Known:
    """What is known of one endpoint under one kind and name. `open_*`: of the connection that is open now."""

    found: set[Found] = field(default_factory=set)
    bytes_in: int = 0
    bytes_out: int = 0
    verified: int = 0
    rejected: int = 0
    refused: str | None = None
    evidence: list[Evidence] = field(default_factory=list)
    open_in: dict[str, int] = field(default_factory=dict)
    open_out: dict[str, int] = field(default_factory=dict)


class Contacts:
    """One pull's contacts. `told`: peers (host, port) that the user named."""

    def __init__(self, *, told: Iterable[Endpoint] = ()) -> None:
        self._told = {format_endpoint(endpoint) for endpoint in told}
        self._known: dict[tuple[Kind, str, str], _Known] = defaultdict(_Known)
        self._brought: dict[str, set[tuple[Kind, str, str]]] = defaultdict(set)
        self._givers: dict[tuple[str, int], set[tuple[Kind, str, str]]] = defaultdict(set)
        self._mirror_urls: dict[str, str] = {}
        self._counted: dict[str, int] = {}
        self._lock = threading.Lock()
        self._here = threading.local()

    # -- what happens --------------------------------------------------------------------------------------------

    def heard(self, happened: SwarmEvent) -> None:
        """An event of the swarm."""
        if isinstance(happened, (PeerMet, PeerLost, PeerBanned)):
            self._peer(happened.endpoint)
        elif isinstance(happened, BlockReceived):
            self._givers[happened.torrent, happened.piece].add(self._peer(happened.endpoint))

    def sampled(self, torrent: str, sources: Iterable[SourceBytes]) -> None:
        """Counters of the connections that are open now, of one torrent."""
        for source in sources:
            known = self._known[self._peer(source.source)]
            known.found.update(source.found)
            came = _growth(known.open_in, torrent, source.downloaded)
            known.bytes_in += came
            if came:
                self._brought[torrent].add(self._peer(source.source))
            known.bytes_out += _growth(known.open_out, torrent, source.uploaded)

    def http(self, contact: Contact) -> None:
        """A web server, or the proxy before it, is connected to, in the thread that asks it."""
        url = getattr(self._here, "url", None)
        with self._lock:
            if contact.proxied:
                self._known["proxy", contact.endpoint, contact.host].found.add("configured")
            elif url is None:
                self._known["catalog", contact.endpoint, contact.host].found.add("told")
            else:
                self._known["mirror", contact.endpoint, url].found.add("manifest")

    @contextmanager
    def asking(self, url: str) -> Iterator[None]:
        """What this thread contacts in here, it contacts for a mirror's URL."""
        self._here.url = url
        try:
            yield
        finally:
            self._here.url = None

    def mirror(self, url: str, endpoint: str) -> None:
        """A mirror answered from an endpoint."""
        with self._lock:
            self._mirror_urls[url] = endpoint
            self._known["mirror", endpoint, url].found.add("manifest")

    def mirror_bytes(self, received: Mapping[str, int]) -> None:
        """What each mirror's URL has sent so far. Where it is served from may change: what is new is noted there."""
        for url, count in received.items():
            if count > (before := self._counted.get(url, 0)):
                self._mirror(url).bytes_in += count - before
                self._counted[url] = count

    def mirror_gave(self, torrent: str, piece: int, url: str) -> None:
        """A mirror brought a piece, whole and right."""
        self._givers[torrent, piece].add(self._mirror_key(url))

    def refused(self, kind: Kind, name: str, reason: str) -> None:
        """Somebody was found and not contacted. `name`: a URL, or HOST:PORT."""
        endpoint = name if kind == "peer" else self._mirror_key(name)[1]
        known = self._known[kind, endpoint, "" if kind == "peer" else name]
        known.refused = reason
        known.found.add("told" if endpoint in self._told else "manifest")

    # -- what came of it -----------------------------------------------------------------------------------------

    def block_verified(self, torrent: str, pieces: Iterable[int]) -> None:
        """A block of these pieces was proven: whoever gave any of them has a part in it."""
        givers = {giver for piece in pieces for giver in self._givers.get((torrent, piece), ())}
        if not givers and len(self._brought[torrent]) == 1:  # nobody counted, and it can't have been anybody else
            givers = self._brought[torrent]
        for giver in givers:
            self._known[giver].verified += 1

    def rejected(self, kind: Kind, source: str, evidence: Evidence) -> None:
        """Somebody's bytes were wrong."""
        known = self._mirror(source) if kind == "mirror" else self._known[self._peer(source)]
        if evidence not in known.evidence:  # a ban may be told more than once
            known.rejected += 1
            known.evidence.append(evidence)

    def endpoints(self) -> tuple[EndpointRecord, ...]:
        """Everybody, for the record."""
        with self._lock:
            return tuple(
                EndpointRecord(
                    endpoint=endpoint,
                    kind=kind,
                    name=name,
                    found=tuple(sorted(known.found)),
                    bytes_in=known.bytes_in,
                    bytes_out=known.bytes_out,
                    blocks_verified=known.verified,
                    blocks_rejected=known.rejected,
                    refused=known.refused,
                    evidence=tuple(known.evidence),
                )
                for (kind, endpoint, name), known in self._known.items()
            )

    def _peer(self, endpoint: str) -> tuple[Kind, str, str]:
        key: tuple[Kind, str, str] = ("peer", endpoint, "")
        known = self._known[key]
        if endpoint in self._told:
            known.found.add("told")
        return key

    def _mirror_key(self, url: str) -> tuple[Kind, str, str]:
        endpoint = self._mirror_urls.get(url)
        if endpoint is None:
            try:
                parts = urlsplit(url)
                endpoint = format_endpoint((parts.hostname or "?", parts.port or _PORTS.get(parts.scheme, 0)))
            except ValueError:  # manifests may have any text there
                endpoint = "?:0"
        return "mirror", endpoint, url

    def _mirror(self, url: str) -> _Known:
        return self._known[self._mirror_key(url)]


def _growth(before: dict[str, int], torrent: str, now: int) -> int:
    """How much a connection's counter grew; it starts at 0 again where the connection is a new one."""
    grown = now - before.get(torrent, 0)
    before[torrent] = now
    return grown if grown >= 0 else now
