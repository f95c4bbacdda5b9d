"""Who gave how many bytes. Pure: fed with samples of open connections, which vanish when they close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from samara.seeder.swarm_events import SourceBytes


class SourceLedger:
    """Splits a transfer's downloaded bytes between peers and mirrors.

    A connection's last bytes before it closed may fall between two samples; they go to peers and mirrors in the
    proportion seen so far.
    """

    def __init__(self) -> None:
        self._past = 0
        self._total = 0
        self._seen: dict[tuple[str, bool], int] = {}
        self._shares: Counter[bool] = Counter()

    def new_round(self) -> None:
        """The torrent was added anew: its counters start at 0 again."""
        self._past += self._total
        self._total = 0
        self._seen.clear()

    def sample(self, total: int, open_now: Iterable[SourceBytes]) -> None:
        """`total`: payload bytes of this round so far; `open_now`: the connections as they stand."""
        self._total = total
        for source in open_now:
            key = (source.source, source.is_mirror)
            before = self._seen.get(key, 0)
            self._seen[key] = source.downloaded
            self._shares[source.is_mirror] += source.downloaded - (before if source.downloaded >= before else 0)

    @property
    def downloaded(self) -> int:
        """Payload bytes over the network, all rounds, wasted ones included."""
        return self._past + self._total

    @property
    def from_mirrors(self) -> int:
        """The mirrors' share of `downloaded`."""
        known = self._shares[True] + self._shares[False]
        return round(self.downloaded * self._shares[True] / known) if known else 0

    @property
    def from_peers(self) -> int:
        """The peers' share of `downloaded`."""
        return self.downloaded - self.from_mirrors
