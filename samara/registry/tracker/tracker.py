"""All swarms of what is published here, under one lock: any thread may announce, scrape, count and expire.

Memory is bounded by `Rules`: so many peers in all, so many of one swarm, so many of one network in it; only torrents
that were published have a swarm. Time is an argument (seconds of any clock). It never goes back here: if that clock
does, peers live a little longer, and nothing else happens.
"""

from __future__ import annotations

import functools
import heapq
import threading
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from random import Random

from samara.registry.tracker.swarms import V4, V6, Swarm
from samara.registry.tracker.values import NOBODY, Announce, Answer, Counts, Kind, Rules, Torrent, Totals

_SHED = 64  # of all peers, one in so many goes when there are too many: looking for the oldest costs something


class Tracker:
    """Who is in which swarm. `random`: whom to tell of is drawn with it."""

    def __init__(self, rules: Rules | None = None, *, random: Random | None = None) -> None:
        self.rules = rules or Rules()
        self._random = random or Random()  # noqa: S311  (which peers are told is no secret)
        self._lock = threading.Lock()
        self._published: dict[bytes, tuple[Torrent, Kind]] = {}  # by infohash, 20 bytes
        self._torrents_of: dict[str, tuple[bytes, ...]] = {}  # blob → v2 infohashes
        self._swarms: dict[bytes, Swarm] = {}  # by v2 infohash
        self._peers = 0
        self._clock: float | None = None
        self._now = 0.0

    # -- what is published ---------------------------------------------------------------------------------------

    def publish(self, torrents: Iterable[Torrent]) -> None:
        """From now on these have swarms, and no others; those of torrents that stay are kept."""
        published: dict[bytes, tuple[Torrent, Kind]] = {}
        torrents_of: dict[str, tuple[bytes, ...]] = {}
        names: set[bytes] = set()
        for torrent in torrents:
            if torrent.v2 in names:
                continue
            names.add(torrent.v2)
            torrents_of[torrent.b3] = (*torrents_of.get(torrent.b3, ()), torrent.v2)
            published.setdefault(torrent.v1, (torrent, Kind.V1))
            published.setdefault(torrent.v2[:20], (torrent, Kind.V2))
        with self._lock:
            self._published, self._torrents_of = published, torrents_of
            for name in [name for name in self._swarms if name not in names]:
                self._peers -= len(self._swarms.pop(name))

    def publish_also(self, torrents: Iterable[Torrent]) -> None:
        """These have swarms too, until `publish` says otherwise."""
        with self._lock:
            for torrent in torrents:
                known = self._torrents_of.get(torrent.b3, ())
                if torrent.v2 not in known:
                    self._torrents_of[torrent.b3] = (*known, torrent.v2)
                self._published.setdefault(torrent.v1, (torrent, Kind.V1))
                self._published.setdefault(torrent.v2[:20], (torrent, Kind.V2))

    # -- what clients ask ----------------------------------------------------------------------------------------

    def announce(self, told: Announce, address: bytes, now: float) -> Answer | None:
        """Take in whoever called from `address` (4 or 16 bytes) and tell it of others; None: not published here."""
        with self._lock:
            found = self._published.get(told.infohash)
            if found is None:
                return None
            torrent, kind = found
            swarm = self._swarms.get(torrent.v2)
            if swarm is None:
                swarm = self._swarms[torrent.v2] = Swarm(torrent.b3)
            before = len(swarm)
            peers, peers6 = swarm.announce(told, kind, address, self._at(now), self.rules, self._random)
            self._peers += len(swarm) - before
            if self._peers > self.rules.peers:
                self._shed()
            return Answer(counts=swarm.counts, peers=peers, peers6=peers6)

    def scrape(self, infohashes: Sequence[bytes]) -> dict[bytes, Counts]:
        """How the swarms of these infohashes are (BEP 48); those that aren't published are left out."""
        with self._lock:
            return {
                infohash: swarm.counts if (swarm := self._swarms.get(found[0].v2)) is not None else NOBODY
                for infohash in infohashes
                if (found := self._published.get(infohash)) is not None
            }

    # -- what the registry asks ----------------------------------------------------------------------------------

    def counts(self, b3: str) -> Counts:
        """How a blob's swarm is now: of all its torrents together, if it has several."""
        with self._lock:
            swarms = [self._swarms.get(name) for name in self._torrents_of.get(b3, ())]
            return functools.reduce(_sum, (swarm.counts for swarm in swarms if swarm is not None), NOBODY)

    def counts_of(self, v2: str) -> Counts:
        """How the swarm of a v2 infohash (64 hex digits) is now."""
        with self._lock:
            swarm = self._swarms.get(bytes.fromhex(v2))
            return NOBODY if swarm is None else swarm.counts

    def peers(self, v2: str, *, most: int = 50) -> tuple[tuple[str, int], ...]:
        """Up to so many peers (address, port) of each address family in the swarm of a v2 infohash (64 hex digits)."""
        with self._lock:
            swarm = self._swarms.get(bytes.fromhex(v2))
            drawn = (b"", b"") if swarm is None else swarm.draw(most, self._random)
        return tuple(
            (str(ip_address(compact[at : at + width - 2])), int.from_bytes(compact[at + width - 2 : at + width], "big"))
            for compact, width in zip(drawn, (V4, V6), strict=True)
            for at in range(0, len(compact), width)
        )

    def all_counts(self) -> dict[str, Counts]:
        """How the swarms are that have peers, or had a download completed, by blob."""
        found: dict[str, Counts] = {}
        with self._lock:
            for swarm in self._swarms.values():
                found[swarm.b3] = _sum(swarm.counts, found.get(swarm.b3, NOBODY))
        return {b3: counts for b3, counts in found.items() if counts != NOBODY}

    def busiest(self, most: int) -> tuple[tuple[str, Counts], ...]:
        """The swarms with the most peers, by blob."""
        return tuple(heapq.nlargest(most, self.all_counts().items(), key=lambda row: (row[1].peers, row[0])))

    def totals(self) -> Totals:
        """How much there is of everything."""
        with self._lock:
            swarms = sum(1 for swarm in self._swarms.values() if len(swarm))
            return Totals(swarms=swarms, peers=self._peers, published=sum(map(len, self._torrents_of.values())))

    def expire(self, now: float, *, at_most: int = 1000) -> bool:
        """Forget up to `at_most` peers that were silent for too long; whether there may be more of them."""
        with self._lock:
            limit = self._at(now) - self.rules.lifetime
            for name, swarm in list(self._swarms.items()):
                while len(swarm) and swarm.oldest < limit:
                    if not at_most:
                        return True
                    self._drop_oldest(swarm)
                    at_most -= 1
                if not len(swarm) and not swarm.completed:
                    del self._swarms[name]
        return False

    def _at(self, clock: float) -> float:
        """The tracker's own time, which never goes back."""
        if self._clock is not None and clock > self._clock:
            self._now += clock - self._clock
        self._clock = clock
        return self._now

    def _shed(self) -> None:
        """Let go the oldest of all."""
        swarms = [swarm for swarm in self._swarms.values() if len(swarm)]
        heap = [(swarm.oldest, number) for number, swarm in enumerate(swarms)]
        heapq.heapify(heap)
        for _ in range(max(1, self.rules.peers // _SHED)):
            _, number = heap[0]
            self._drop_oldest(swarms[number])
            if len(swarms[number]):
                heapq.heapreplace(heap, (swarms[number].oldest, number))
            else:
                heapq.heappop(heap)

    def _drop_oldest(self, swarm: Swarm) -> None:
        swarm.drop_oldest()
        self._peers -= 1


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        seeders=one.seeders + other.seeders,
        leechers=one.leechers + other.leechers,
        completed=one.completed + other.completed,
    )
