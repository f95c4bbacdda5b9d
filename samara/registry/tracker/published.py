"""Which torrents have swarms: those that are listed, read out of the index when something else is listed than before.

A torrent's v1 infohash stands nowhere but in the torrent, which is parsed once. They are read one by one: thousands of
them need no more memory than the largest.
"""

from __future__ import annotations

from samara.registry.listings import Listings
from samara.registry.tracker.values import Torrent
from samara.schemas.bittorrent import parse_blob_torrent
from samara.schemas.errors import MalformedError


class Published:
    """Follows the listings. For one thread."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self._state: tuple[int, int, float] | None = None
        self._known: dict[bytes, Torrent | None] = {}  # by v2 infohash; None: damaged in the index, audit's business

    def changed(self) -> tuple[Torrent, ...] | None:
        """Every torrent that is listed now; None if nothing has changed since the last time. Raises StoreError.

        Cheap when nothing has.
        """
        state = self._listings.state()
        if state == self._state:
            return None
        listed = self._listings.listed_torrents()
        self._known = {v2: self._torrent(b3, v2) for b3, v2 in listed}
        self._state = state  # read before what it stands for: what came in between is read again
        return tuple(torrent for torrent in self._known.values() if torrent is not None)

    def _torrent(self, b3: str, v2: bytes) -> Torrent | None:
        if v2 in self._known:
            return self._known[v2]
        data = self._listings.torrent(v2.hex())
        if data is None:  # withdrawn meanwhile: the state will have changed
            return None
        try:
            parsed = parse_blob_torrent(data)
        except MalformedError:
            return None
        return Torrent(b3=b3, v1=bytes.fromhex(parsed.v1), v2=v2) if parsed.v2 == v2.hex() else None
