"""How one swarm session behaves. Pure: checks what it is told, opens nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

from samara.schemas.announce_urls import MAX_TRACKERS, check_announce_url
from samara.schemas.endpoints import parse_peer
from samara.schemas.errors import UsageError
from samara.schemas.networks import Network
from samara.schemas.rates import MAX_RATE
from samara.seeder.profiles import PROFILES, Profile

LAN_GROUPS = ("239.192.152.143", "ff15::efc0:988f")  # BEP 14
PUBLIC_DHT = ("dht.libtorrent.org:25401",)  # the way into it; libtorrent's own choice
ANY_ADDRESS = ("0.0.0.0:0", "[::]:0")  # every interface, ports chosen by the system


@dataclass(frozen=True, kw_only=True, slots=True)
class SwarmOptions:
    """How one session behaves. Rates are bytes per second, 0 = no cap. `listen`: ("127.0.0.1:6901", …).

    `dht_nodes` ("HOST:PORT", …) are known to the DHT instead of the public ones; with loopback addresses alone it is a
    DHT of this machine's own, without what protects the public one from strangers. `dht_read_only` is for sessions that
    only look things up, and end soon: the DHT's nodes won't remember them (BEP 43), and nobody waits for an answer of
    one that has gone. (Nodes do remember who puts an item or announces a torrent, and would wait in vain even before.)

    `trackers`: announce URLs, asked for every blob's peers, and told that we are one. They are given on purpose: a
    session without discovery asks them too.

    `networks`: nobody outside them is contacted or let in, if any are named. `count_blocks`: tell who brought each
    block of 16 KiB (BlockReceived), at the cost of a tenth of the processor time.
    """

    listen: tuple[str, ...] = ANY_ADDRESS
    dht: bool = True
    dht_nodes: tuple[str, ...] = ()
    dht_read_only: bool = False
    trackers: tuple[str, ...] = ()
    lan: bool = True
    port_mapping: bool = True
    upload_limit: int = 0
    download_limit: int = 0
    networks: tuple[Network, ...] = ()
    count_blocks: bool = False
    profile: Profile = PROFILES["fast"]

    def __post_init__(self) -> None:
        for rate in (self.upload_limit, self.download_limit):
            if not 0 <= rate <= MAX_RATE:  # libtorrent would take another number without a word
                raise UsageError("not a rate", expected=f"0…{MAX_RATE} bytes per second", actual=rate)
        for node in self.dht_nodes:
            parse_peer(node)
        for url in self.trackers:
            check_announce_url(url)
        if len(self.trackers) > MAX_TRACKERS:
            raise UsageError("too many trackers", expected=f"≤ {MAX_TRACKERS}", actual=len(self.trackers))
        if self.dht_nodes and not self.dht:
            raise UsageError("DHT nodes for a session without DHT", next_step="leave out --no-dht or --dht-node")

    def without_discovery(self) -> SwarmOptions:
        """The same, talking only to peers and trackers it is told of, to the DHT only if it was told of its nodes."""
        return replace(self, dht=bool(self.dht_nodes), lan=False, port_mapping=False)

    def within(self, networks: tuple[Network, ...]) -> SwarmOptions:
        """The same, in contact with nobody outside these networks, trackers neither.

        No DHT and no router: both answer with addresses of others. On the LAN only if its multicast group (BEP 14) is
        among the networks.
        """
        lan = self.lan and any(ip_address(group) in network for network in networks for group in LAN_GROUPS)
        return replace(self, networks=networks, dht=False, dht_nodes=(), lan=lan, port_mapping=False)

    def mirrors_only(self) -> SwarmOptions:
        """The same, neither finding nor accepting peers."""
        return replace(self, dht=False, dht_nodes=(), trackers=(), lan=False, port_mapping=False, listen=())
