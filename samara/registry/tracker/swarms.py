"""One swarm: who is in it, whom to tell of whom, and who has to go. Pure; `samara.registry.tracker.tracker` owns them.

A peer is whoever proves to be the same again by its peer id and its secret key (BEP 7), or without a key by its peer id
and address: then one that moves, or comes with both address families, or by both infohashes of a hybrid torrent, counts
once. It has at most one endpoint of each family, and an endpoint has one owner: the last who announced it. Only
addresses that somebody really called from get here, so a liar can list nothing but ports of its own.

Who is whole is told of others who are when it starts, not later. Who calls from elsewhere isn't told of peers on this
machine's loopback.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from samara.registry.tracker.pools import Place, Pool
from samara.registry.tracker.values import Announce, Counts, Event, Kind, Rules

V4, V6 = 6, 18  # bytes of a compact endpoint
_KINDS = Kind.V1 | Kind.V2
_WHOLE, _LOCAL, _SIX = 4, 8, 16  # flags of a pool's number, beside its kinds
_LOOPBACK_6 = bytes(15) + b"\x01"


@dataclass(slots=True, eq=False)
class _Peer:
    """One who is in the swarm. `seen`: when it announced last; `counted`: its completed download was."""

    name: bytes
    seen: float
    kinds: int = 0
    is_whole: bool = False
    counted: bool = False
    place4: Place | None = None
    place6: Place | None = None


@dataclass(slots=True)
class Swarm:
    """The peers of one torrent, in the order in which they announced. `b3`: the blob it is of."""

    b3: str
    seeders: int = 0
    completed: int = 0
    _peers: dict[bytes, _Peer] = field(default_factory=dict)
    _owners: dict[bytes, _Peer] = field(default_factory=dict)  # by endpoint
    _networks: dict[bytes, list[_Peer]] = field(default_factory=dict)
    _pools: dict[int, Pool] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def counts(self) -> Counts:
        """How many are here, and how many completed it since the tracker began."""
        return Counts(seeders=self.seeders, leechers=len(self._peers) - self.seeders, completed=self.completed)

    @property
    def oldest(self) -> float:
        """When the one announced that has been silent for longest. Ask only if there is anybody."""
        return next(iter(self._peers.values())).seen

    def announce(
        self, told: Announce, kind: Kind, address: bytes, now: float, rules: Rules, random: Random
    ) -> tuple[bytes, bytes]:
        """Take in, or let go, whoever called from `address` (4 or 16 bytes); (peers, peers6) for it, compact."""
        name = told.peer_id + (b"k" + told.key if told.key else b"a" + address)
        if told.event is Event.STOPPED:
            if (gone := self._peers.get(name)) is not None:  # from the torrent, by whichever infohash it says so
                self._drop(gone)
            return b"", b""
        peer = self._peers.pop(name, None)
        if peer is None:
            if len(self._peers) >= rules.swarm_peers:
                self.drop_oldest()
            peer = _Peer(name=name, seen=now)
        self._peers[name] = peer  # now the last of all
        peer.seen = now
        if told.event is Event.COMPLETED and not peer.counted:
            peer.counted = True
            self.completed += 1
        self._become(peer, peer.kinds | kind, told.is_whole, random)
        self._be_at(peer, address + told.port.to_bytes(2, "big"), rules, random)
        wanted = rules.wanted if told.wanted is None else min(told.wanted, rules.most)
        # who starts by a magnet link may say that nothing is left: it doesn't know the size yet (aria2)
        has_enough = peer.is_whole and told.event is not Event.STARTED
        mask = kind | (0 if has_enough else _WHOLE) | (_LOCAL if _is_loopback(address) else 0)
        return (
            self._draw(peer.place4, mask, wanted, random),
            self._draw(peer.place6, mask | _SIX, wanted, random),
        )

    def draw(self, wanted: int, random: Random) -> tuple[bytes, bytes]:
        """(peers, peers6) for somebody on this machine who isn't in the swarm."""
        mask = _KINDS | _WHOLE | _LOCAL
        return self._draw(None, mask, wanted, random), self._draw(None, mask | _SIX, wanted, random)

    def drop_oldest(self) -> None:
        """Let go whoever has been silent for longest."""
        self._drop(next(iter(self._peers.values())))

    # -- who is in it ----------------------------------------------------------------------------------------------

    def _drop(self, peer: _Peer) -> None:
        del self._peers[peer.name]
        self.seeders -= peer.is_whole
        for place in (peer.place4, peer.place6):
            if place is not None:
                self._leave(peer, place)

    def _become(self, peer: _Peer, kinds: int, is_whole: bool, random: Random) -> None:  # noqa: FBT001
        if kinds == peer.kinds and is_whole == peer.is_whole:
            return
        places = [place for place in (peer.place4, peer.place6) if place is not None]
        for place in places:
            self._pool_of(peer, place).remove(place)
        self.seeders += is_whole - peer.is_whole
        peer.kinds, peer.is_whole = kinds, is_whole
        for place in places:
            self._pool_of(peer, place).add(place, random)

    # -- where they are --------------------------------------------------------------------------------------------

    def _be_at(self, peer: _Peer, endpoint: bytes, rules: Rules, random: Random) -> None:
        """From now on the peer is at this endpoint, and at no other of that family."""
        six = len(endpoint) == V6
        place = peer.place6 if six else peer.place4
        if place is not None:
            if place.endpoint == endpoint:
                return
            self._leave(peer, place)
        owner = self._owners.get(endpoint)
        if owner is not None:
            self._lose(owner, six=six)
        for network, most in _networks_of(endpoint, rules):
            there = self._networks.get(network, ())
            if len(there) >= most:
                self._lose(min(there, key=_seen), six=six)
        place = Place(endpoint)
        if six:
            peer.place6 = place
        else:
            peer.place4 = place
        self._owners[endpoint] = peer
        for network, _ in _networks_of(endpoint, rules):
            self._networks.setdefault(network, []).append(peer)
        self._pool_of(peer, place).add(place, random)

    def _lose(self, peer: _Peer, *, six: bool) -> None:
        """It isn't at its endpoint of that family any more; without one of the other it isn't in the swarm."""
        place, other = (peer.place6, peer.place4) if six else (peer.place4, peer.place6)
        if other is None:
            self._drop(peer)
        elif place is not None:
            self._leave(peer, place)

    def _leave(self, peer: _Peer, place: Place) -> None:
        self._pool_of(peer, place).remove(place)
        del self._owners[place.endpoint]
        for network in _prefixes(place.endpoint):
            there = self._networks[network]
            there.remove(peer)
            if not there:
                del self._networks[network]
        if len(place.endpoint) == V6:
            peer.place6 = None
        else:
            peer.place4 = None

    def _pool_of(self, peer: _Peer, place: Place) -> Pool:
        """The pool of all that are told to the same ones."""
        number = peer.kinds | (_WHOLE if peer.is_whole else 0)
        width = len(place.endpoint)
        if width == V6:
            number |= _SIX
        if _is_loopback(place.endpoint[:-2]):
            number |= _LOCAL
        pool = self._pools.get(number)
        if pool is None:
            pool = self._pools[number] = Pool(width)
        return pool

    # -- whom to tell of whom --------------------------------------------------------------------------------------

    def _draw(self, itself: Place | None, mask: int, wanted: int, random: Random) -> bytes:
        """Up to `wanted` endpoints of one family, each as likely as any other; of pools that have nothing `mask` lacks
        but kinds.
        """
        pools = [
            pool
            for number, pool in self._pools.items()
            if number & mask & _KINDS and (number ^ mask) & _SIX == 0 and number & ~mask & (_WHOLE | _LOCAL) == 0
        ]
        left = sum(map(len, pools))
        found = []
        for pool in pools:
            if not wanted:
                break
            # its share; what is left over of it is drawn for
            share = min(wanted, int(wanted * len(pool) / left + random.random())) if left > wanted else len(pool)
            left -= len(pool)
            share = max(share, wanted - left)
            drawn = pool.draw(share, random, but=itself)
            found.append(drawn)
            wanted -= len(drawn) // pool.width
        return b"".join(found)


def _is_loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK_6


def _prefixes(endpoint: bytes) -> tuple[bytes, ...]:
    """What stands for one host, or one site, in an endpoint. Of three lengths: they can't be taken for each other."""
    return (endpoint[:4],) if len(endpoint) == V4 else (endpoint[:8], endpoint[:6])


def _networks_of(endpoint: bytes, rules: Rules) -> tuple[tuple[bytes, int], ...]:
    if len(endpoint) == V4:
        return ((endpoint[:4], rules.per_address),)
    return ((endpoint[:8], rules.per_net64), (endpoint[:6], rules.per_net48))


def _seen(peer: _Peer) -> float:
    return peer.seen
