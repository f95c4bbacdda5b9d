"""Which torrents have swarms: those that are listed, read out of the index when something else is listed than before.

A torrent's v1 infohash stands nowhere but in the torrent, which is read once, a part of all at a time: thousands of
them need no more memory than the largest, and a registry that starts with as many doesn't keep its clients waiting.
"""

from __future__ import annotations

from samara.registry.listings import Listings
from samara.registry.tracker.values import Torrent
from samara.schemas.bittorrent import info_bytes, infohashes
from samara.schemas.errors import MalformedError

AT_ONCE = 500  # torrents read in one look


class Published:
    """Follows the listings. For one thread. `is_behind`: there was more to read than was read in the last look."""

    def __init__(self, listings: Listings, *, at_once: int = AT_ONCE) -> None:
        self._listings = listings
        self._at_once = at_once
        self._state: tuple[int, int, float] | None = None
        self._known: dict[bytes, Torrent | None] = {}  # by v2 infohash; None: damaged in the index, audit's business
        self.is_behind = False

    def changed(self) -> tuple[Torrent, ...] | None:
        """Every torrent that is listed now, as far as they were read; None if nothing has changed since the last time.

        Cheap when nothing has. Raises StoreError.
        """
        self.is_behind = False
        state = self._listings.state()
        if state == self._state:
            return None
        known: dict[bytes, Torrent | None] = {}
        unread = 0
        for number, b3, v2 in self._listings.listed_torrents():
            if v2 in self._known:
                known[v2] = self._known[v2]
            elif unread < self._at_once:
                unread += 1
                data = self._listings.torrent_data(number)
                if data is not None:  # else it was withdrawn meanwhile, and the state is another one
                    known[v2] = _read(b3, v2, data)
            else:
                self.is_behind = True
        self._known = known
        if not self.is_behind:
            self._state = state  # read before what it stands for: what came in between is read again
        return tuple(torrent for torrent in known.values() if torrent is not None)

    def of(self, identity: str, *, since: float) -> tuple[Torrent, ...]:
        """What a publisher listed anew since then (UTC epoch seconds), of much a part: the next look brings the rest.

        Raises StoreError.
        """
        found = []
        for number, b3, v2 in self._listings.listed_torrents(identity=identity, since=since)[: self._at_once]:
            if v2 not in self._known:
                data = self._listings.torrent_data(number)
                if data is not None:
                    self._known[v2] = _read(b3, v2, data)
            torrent = self._known.get(v2)
            if torrent is not None:
                found.append(torrent)
        return tuple(found)


def _read(b3: str, v2: bytes, data: bytes) -> Torrent | None:
    """The torrent, if it still is what was published: its infohash proves that."""
    try:
        v1, found = infohashes(info_bytes(data))
    except MalformedError:
        return None
    return Torrent(b3=b3, v1=bytes.fromhex(v1), v2=v2) if found == v2.hex() else None
