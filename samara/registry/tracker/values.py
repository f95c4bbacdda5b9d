"""What is announced to a tracker, what it answers, and the rules it keeps. Frozen values; nothing happens here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from samara.schemas.errors import UsageError


class Kind(IntEnum):
    """By which of a hybrid torrent's infohashes (BEP 52) somebody is in its swarm. Who knows one alone can't be called
    by the other: handshakes name an infohash."""

    V1 = 1
    V2 = 2


class Event(Enum):
    """Why somebody announces (BEP 3). `COMPLETED`: it has just got the last piece."""

    STARTED = b"started"
    STOPPED = b"stopped"
    COMPLETED = b"completed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the tracker bounds. Times are seconds.

    `interval`: how often peers are told to announce; whoever was silent for two intervals is forgotten. `wanted`,
    `most`: peers given of each address family, when nothing is said, and at most. `peers`: kept in all; `swarm_peers`:
    of one swarm; `per_address`, `per_net64`, `per_net48`: of one swarm from one IPv4 address, one IPv6 /64 (a host may
    have all of it), one IPv6 /48 (so may a site). Of whom there are too many, who has been silent longest goes first.
    """

    interval: int = 1800
    min_interval: int = 300
    wanted: int = 50
    most: int = 200
    peers: int = 200_000
    swarm_peers: int = 10_000
    per_address: int = 32
    per_net64: int = 64
    per_net48: int = 256

    def __post_init__(self) -> None:
        if not 30 <= self.min_interval <= self.interval <= 86_400:
            raise UsageError(
                "not an interval for announces",
                expected="30 s ≤ at least ≤ usually ≤ one day",
                actual=f"{self.min_interval} s, {self.interval} s",
            )
        rest = (self.wanted, self.most, self.peers, self.swarm_peers)
        if min(*rest, self.per_address, self.per_net64, self.per_net48) < 1 or self.wanted > self.most:
            raise UsageError("a tracker's bounds are 1 or more", actual=self)

    @property
    def lifetime(self) -> int:
        """Seconds of silence after which a peer is forgotten."""
        return 2 * self.interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Announce:
    """What a client says of itself (BEP 3, 7). `infohash`: 20 bytes, v1 or truncated v2; `key`: a secret that it keeps
    when its address changes; `wanted`: how many peers it would like, None: as usual; `ip`: the address it claims to
    have, 4 or 16 bytes, for whoever believes it."""

    infohash: bytes
    peer_id: bytes
    port: int
    is_whole: bool
    event: Event | None = None
    wanted: int | None = None
    key: bytes = b""
    ip: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many are in a swarm; `completed`: downloads that were completed, since the tracker began or as is said."""

    seeders: int
    leechers: int
    completed: int

    @property
    def peers(self) -> int:
        """Both."""
        return self.seeders + self.leechers


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What an announce is answered. `peers`, `peers6`: compact endpoints, 6 and 18 bytes each (BEP 23, 7)."""

    counts: Counts
    peers: bytes
    peers6: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """How much there is of everything. `published`: torrents that may be announced."""

    swarms: int
    peers: int
    published: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Torrent:
    """A published torrent. `b3`: its blob; `v1`, `v2`: infohashes, 20 and 32 bytes."""

    b3: str
    v1: bytes
    v2: bytes


NOBODY = Counts(seeders=0, leechers=0, completed=0)
