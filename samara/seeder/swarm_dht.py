"""A session's part in the DHT: its nodes, mutable items (BEP 44), early announces. Knows libtorrent; decides nothing.

Not for use by itself: `samara.seeder.swarm.Swarm` owns one. What was seen to bite:
- a look-up by a session that knows no node answers at once, and authoritatively, that there is nothing;
- a node given as "bootstrap" is never asked for items and never holds any, so given nodes are added as nodes;
- `add_dht_node` is one packet: a node that isn't up yet must be added again;
- of a value that is too large nothing is said but that it is stored on 0 nodes;
- DHT alerts include every stranger's question, so they are asked for only while an answer of ours is due.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import libtorrent as lt

from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import MalformedError, UsageError
from samara.seeder.swarm_events import DhtSize, ItemFound, ItemPut, SwarmEvent
from samara.seeder.swarm_options import PUBLIC_DHT

Endpoint = tuple[str, int]

MAX_ITEM_BYTES = 996  # BEP 44 allows 1,000 for the bencoded value; libtorrent stores a string
MAX_SALT_BYTES = 64
_COUNT_SOON, _COUNT_LATER = 0.1, 5.0  # seconds between counts of the nodes, while there is none and after
_RETELL = 1.0  # seconds between tries of the given nodes while none has answered
_TORRENTS = (2.0, 100.0)  # looked up a second: in the public DHT, where libtorrent may send little, and on loopback
_BURST = 8  # torrents that need not wait
_ANSWERS_WITHIN = 120.0  # seconds after which nobody waits for an answer any more

# What keeps strangers from filling a routing table also keeps the nodes of one machine from knowing each other.
_ON_ONE_MACHINE: Mapping[str, int | bool] = MappingProxyType(
    {
        "dht_block_ratelimit": 1_000_000,
        "dht_block_timeout": 1,
        "dht_enforce_node_id": False,
        "dht_ignore_dark_internet": False,
        "dht_prefer_verified_node_ids": False,
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_upload_rate_limit": 10_000_000,
    }
)


def resolve_nodes(texts: Sequence[str], resolve: Callable[[str, int], Sequence[Endpoint]]) -> tuple[Endpoint, ...]:
    """("HOST:PORT", …) → addresses. Raises UsageError for a name without an address."""
    found: list[Endpoint] = []
    for text in texts:
        host, port = parse_endpoint(text)
        try:
            found.extend(resolve(host, port))
        except OSError as error:
            raise UsageError(
                f"can't find the address of the DHT node {text} ({error.strerror or error})",
                next_step="check the name after --dht-node",
            ) from None
    return tuple(dict.fromkeys(found))


def on_one_machine(nodes: Sequence[Endpoint]) -> bool:
    """Whether these are nodes of this machine alone: a DHT of its own, where no stranger can be."""
    return bool(nodes) and all(ipaddress.ip_address(host).is_loopback for host, _port in nodes)


def dht_settings(nodes: Sequence[Endpoint], *, enabled: bool) -> dict[str, Any]:
    """libtorrent's settings for the public DHT, or with `nodes` for theirs."""
    settings: dict[str, Any] = {"enable_dht": enabled}
    settings["dht_bootstrap_nodes"] = "" if nodes else ",".join(PUBLIC_DHT)
    if on_one_machine(nodes):
        settings.update(_ON_ONE_MACHINE)
    return settings


def listen_for(listen: Sequence[str], nodes: Sequence[Endpoint]) -> tuple[str, ...]:
    """`listen`, and if need be a port on loopback: of all interfaces together libtorrent's DHT leaves that one out."""
    if not listen or not on_one_machine(nodes):
        return tuple(listen)
    families = {ipaddress.ip_address(host).version for host, _port in nodes}
    return (*listen, *(_LOOPBACK[family] for family in sorted(families - _loopback_families(listen))))


_LOOPBACK = MappingProxyType({4: "127.0.0.1:0", 6: "[::1]:0"})


def _loopback_families(listen: Sequence[str]) -> set[int]:
    found: set[int] = set()
    for text in listen:
        try:
            address = ipaddress.ip_address(parse_endpoint(text)[0])
        except ValueError:  # the name of an interface
            continue
        if address.is_loopback:
            found.add(address.version)
    return found


class Dht:
    """The DHT as one session sees it. `alerts`: the alert mask of everything else."""

    def __init__(self, session: Any, nodes: Sequence[Endpoint], *, enabled: bool, alerts: int) -> None:
        self.enabled = enabled
        self.size = 0
        self._session = session
        self._nodes = nodes
        self._alerts = alerts
        self._rate = _TORRENTS[on_one_machine(nodes)]
        self._credit = float(_BURST)
        self._to_ask: dict[str, Callable[[], None]] = {}
        self._due: dict[tuple[str, bytes, bytes], float] = {}  # the answers waited for: until when
        self._ticked_at = self._counted_at = self._told_at = float("-inf")

    def close(self) -> None:
        """Let go of the session."""
        self.enabled = False
        self._session = None
        self._to_ask.clear()

    # -- what a session asks ---------------------------------------------------------------------------------------

    def put(self, seed: bytes, public: bytes, value: bytes, salt: bytes, now: float) -> None:
        """Sign `value` with the key of an Ed25519 `seed` (32 bytes, RFC 8032) and store it, answered by ItemPut."""
        if not 0 < len(value) <= MAX_ITEM_BYTES or len(salt) > MAX_SALT_BYTES:
            raise MalformedError(
                "DHT item too large, or empty",
                expected=f"1…{MAX_ITEM_BYTES} bytes with a salt of ≤ {MAX_SALT_BYTES}",
                actual=f"{len(value)} with {len(salt)}",
            )
        self._wait_for("put", public, salt, now)
        self._session.dht_put_mutable_item(_expanded(seed), public, value, salt)

    def get(self, public: bytes, salt: bytes, now: float) -> None:
        """Look up what a key has signed; answered by ItemFound, the last of them authoritative."""
        self._wait_for("get", public, salt, now)
        self._session.dht_get_mutable_item(public, salt)

    def announce(self, name: str, handle: Any) -> None:
        """Announce a torrent and look for its peers as soon as may be, not at libtorrent's turn, 4 s apart."""

        def ask() -> None:
            if handle.is_valid():
                handle.force_dht_announce()

        self._ask_soon(name, ask)

    def find_peers(self, name: str) -> None:
        """Look for the peers of an infohash (v2, 64 hex) without becoming one; `peers_found` reads the answers."""
        infohash = lt.sha1_hash(bytes.fromhex(name)[:20])  # BEP 52: the DHT knows it by so much of it
        self._ask_soon(name, lambda: self._session.dht_get_peers(infohash))

    @staticmethod
    def peers_found(kind: str, alert: Any) -> tuple[str, list[Endpoint]] | None:
        """(the first 40 hex digits of an infohash, peers) if that is what an alert tells."""
        if kind != "dht_get_peers_reply_alert":
            return None
        return str(alert.info_hash), [(str(host), int(port)) for host, port in alert.peers()]

    def forget(self, name: str) -> None:
        """A torrent was removed."""
        self._to_ask.pop(name, None)

    def tick(self, now: float) -> None:
        """Whatever is due. Call it at each look at what happened."""
        if not self.enabled:
            return
        elapsed, self._ticked_at = min(now - self._ticked_at, 60.0), now
        if now - self._counted_at >= (_COUNT_LATER if self.size else _COUNT_SOON):
            self._counted_at = now
            self._session.post_session_stats()
        if not self.size and now - self._told_at >= _RETELL:
            self._told_at = now
            for node in self._nodes:
                self._session.add_dht_node(node)
        if self._to_ask:
            self._ask_some(elapsed)
        late = [question for question, until in self._due.items() if until < now]
        for question in late:
            self._answered(question)

    # -- what it hears ---------------------------------------------------------------------------------------------

    def translate(self, kind: str, alert: Any) -> Iterator[SwarmEvent]:
        """The events of one alert of a kind."""
        if kind == "session_stats_alert":
            yield from self._counted(int(alert.values["dht.dht_nodes"]))
        elif kind == "dht_mutable_item_alert":
            public, salt, item = bytes(alert.key), bytes(alert.salt), alert.item
            usable = isinstance(item, bytes) and 0 < len(item) <= MAX_ITEM_BYTES
            if alert.authoritative:
                self._answered(("get", public, salt))
            yield ItemFound(
                public=public,
                salt=salt,
                value=item if usable else None,
                seq=int(alert.seq) if usable else 0,
                authoritative=bool(alert.authoritative),
            )
        elif kind == "dht_put_alert":
            public, salt = bytes(alert.public_key), bytes(alert.salt)
            self._answered(("put", public, salt))
            yield ItemPut(public=public, salt=salt, stored_on=int(alert.num_success))

    def _counted(self, size: int) -> Iterator[SwarmEvent]:
        before, self.size = self.size, size
        if size and not before and self._nodes:
            # any look-up brings in the given nodes' neighbours, and makes them know us
            self._session.dht_get_peers(lt.sha1_hash(os.urandom(20)))
        if size != before:
            yield DhtSize(nodes=size)

    def _ask_soon(self, name: str, ask: Callable[[], None]) -> None:
        if self.enabled:
            self._to_ask[name] = ask
            self._ask_some(0.0)

    def _ask_some(self, elapsed: float) -> None:
        self._credit = min(_BURST, self._credit + elapsed * self._rate)
        while self.size and self._to_ask and self._credit >= 1:
            self._credit -= 1
            self._to_ask.pop(next(iter(self._to_ask)))()

    def _wait_for(self, what: str, public: bytes, salt: bytes, now: float) -> None:
        if not self._due:
            self._session.apply_settings({"alert_mask": self._alerts | lt.alert_category.dht})
        self._due[what, public, salt] = now + _ANSWERS_WITHIN

    def _answered(self, question: tuple[str, bytes, bytes]) -> None:
        if self._due.pop(question, None) is not None and not self._due:
            self._session.apply_settings({"alert_mask": self._alerts})


def _expanded(seed: bytes) -> bytes:
    """An Ed25519 seed (32 bytes) → the 64 bytes of private key that libtorrent signs with (RFC 8032 §5.1.5)."""
    if len(seed) != 32:
        raise UsageError("not an Ed25519 seed", expected="32 bytes", actual=f"{len(seed)} bytes")
    digest = bytearray(hashlib.sha512(seed).digest())
    digest[0] &= 248
    digest[31] &= 63
    digest[31] |= 64
    return bytes(digest)
