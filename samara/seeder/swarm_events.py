"""What a swarm session reports, as frozen values. Pure: no libtorrent in here.

`samara.seeder.swarm` makes them of libtorrent's alerts; whoever polls a session gets them.
"""

from __future__ import annotations

from dataclasses import dataclass

from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import NetworkError
from samara.schemas.pull_record import Found

WRONG_BYTES = "sent wrong bytes and was banned"


@dataclass(frozen=True, kw_only=True, slots=True)
class SwarmEvent:
    """Base of what a session reports. `torrent` is the v2 infohash (64 hex), empty for the session itself."""

    torrent: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceFinished(SwarmEvent):
    """A piece passed BEP 52's check. Its bytes may reach the file a little later."""

    piece: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceFailed(SwarmEvent):
    """A piece failed its check and will be fetched again."""

    piece: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerBanned(SwarmEvent):
    """A peer sent wrong bytes and is not asked again."""

    endpoint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloading(SwarmEvent):
    """The torrent is ready for peers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished(SwarmEvent):
    """Every piece has passed its check. Flush before reading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flushed(SwarmEvent):
    """Every piece that was finished when `flush` was called is in the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFailed(SwarmEvent):
    """Reading or writing the file failed; the torrent stands still."""

    errno: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListeningOn(SwarmEvent):
    """The session accepts connections at an endpoint."""

    endpoint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenFailed(SwarmEvent):
    """An address can't be listened on."""

    endpoint: str
    message: str

    @property
    def was_chosen(self) -> bool:
        """Whether somebody asked for this port. Of the ports the system chooses not every one must work: no IPv6."""
        return parse_endpoint(self.endpoint)[1] != 0

    def as_error(self) -> NetworkError:
        """The same as an error."""
        return NetworkError(
            f"can't listen on {self.endpoint} ({self.message})", next_step="choose another --listen address"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerMet(SwarmEvent):
    """A connection was made, by us or by them."""

    endpoint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockReceived(SwarmEvent):
    """A peer brought 16 KiB of a piece; only where the session was asked to count them."""

    endpoint: str
    piece: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerLost(SwarmEvent):
    """A connection ended, or could not be made."""

    endpoint: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackerFailed(SwarmEvent):
    """A tracker didn't answer, or refused; it is asked again, ever more rarely. `reason`: what failed, or its words."""

    url: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsLost(SwarmEvent):
    """More happened than the session's queue could hold: what is known of any torrent may be out of date."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallReady(SwarmEvent):
    """A small file is here, proven by its infohash. `peers`: who else to ask for what belongs to it."""

    name: str
    data: bytes
    peers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallRefused(SwarmEvent):
    """What an infohash names isn't a small file as asked for; nothing of it was fetched."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallGone(SwarmEvent):
    """A small file's fetch was removed and has left nothing on the disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DhtSize(SwarmEvent):
    """How many DHT nodes the session knows now: 0, and nothing can be looked up or stored."""

    nodes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFound(SwarmEvent):
    """What a look-up found so far; when `authoritative`, what it found in the end.

    `value`: the signed bytes, None if there are none or they can't be ours (BEP 44). `seq` counts the key's puts.
    """

    public: bytes
    salt: bytes
    value: bytes | None
    seq: int
    authoritative: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemPut(SwarmEvent):
    """An item was stored on so many nodes; 0: on none."""

    public: bytes
    salt: bytes
    stored_on: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TorrentStatus:
    """Where one torrent stands. Bytes and bytes per second."""

    peers: int
    down_rate: int
    up_rate: int
    downloaded: int
    uploaded: int
    wasted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceBytes:
    """Payload received from and sent to one open connection so far. `source`: its HOST:PORT; `found`: how libtorrent
    came to know it ("tracker", "dht", "exchange", "lan", or "incoming": it called us), nothing for whom we called
    because somebody told us to.
    """

    source: str
    found: frozenset[Found]
    downloaded: int
    uploaded: int
