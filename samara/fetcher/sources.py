"""How many bytes of a transfer came over the network, and from whom. Pure: fed with the counters as they stand."""

from __future__ import annotations


class SourceLedger:
    """Splits a transfer's downloaded bytes between peers, whose counter starts anew with each round, and mirrors."""

    def __init__(self) -> None:
        self._past = 0
        self._peers = 0
        self._mirrors = 0

    def new_round(self) -> None:
        """The torrent was added anew: its counter starts at 0 again."""
        self._past += self._peers
        self._peers = 0

    def sample(self, *, peers: int, mirrors: int) -> None:
        """Payload bytes so far: of peers in this round, of mirrors in all."""
        self._peers = peers
        self._mirrors = mirrors

    @property
    def downloaded(self) -> int:
        """Payload bytes over the network, all rounds, wasted ones included."""
        return self.from_peers + self.from_mirrors

    @property
    def from_mirrors(self) -> int:
        """The mirrors' part of `downloaded`."""
        return self._mirrors

    @property
    def from_peers(self) -> int:
        """The peers' part of `downloaded`."""
        return self._past + self._peers
