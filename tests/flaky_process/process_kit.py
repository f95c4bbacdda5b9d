"""Pulls that are killed, stopped and meddled with: starting them, disturbing them at times drawn from a seed, and what
must hold whenever one has died.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from support.processes import LIMIT, Line, Outcome, Process, pulling
from support.swarms import Peer
from support.world import PIECE, Shelf, assert_pulled, partial_data

from samara.fetcher.partial import Partial
from samara.registry.home import Home
from samara.schemas.bittorrent import parse_blob_torrent
from samara.schemas.ranges import Bitmap

LINK = 4_000_000  # bytes per second
# of one connected peer, when a pull dies: the pieces that were half here, and what its cap hands out at once
IN_FLIGHT = 3 * PIECE + LINK // 10


def hold(seconds: float) -> None:
    """Let a condition last so long. Not a way to wait for anything: the time is what is tested."""
    threading.Event().wait(seconds)


def has_begun(progress: Line) -> bool:
    """Whether bytes have come."""
    return bool(progress["done"] > 0)


def has_done(size: int) -> Callable[[Line], bool]:
    """Whether so many bytes are here."""
    return lambda progress: bool(progress["done"] >= size)


def fetched(outcome: Outcome) -> int:
    """Bytes that came over the network, wasted ones included."""
    return int(outcome.result["bytes_from_peers"] + outcome.result["bytes_from_mirrors"])


def claimed(home: Home, published: Shelf) -> Bitmap:
    """The pieces that the transfer's record claims; none without a record."""
    file = published.only
    record = Partial(home, file.b3_hex, parse_blob_torrent(published.torrent).v2)
    claims = record.load(pieces=file.piece_count, blocks=len(file.blocks))
    return Bitmap.empty(file.piece_count) if claims is None else claims.pieces


def assert_claims_are_true(home: Home, published: Shelf) -> None:
    """Whatever a record says is here is here, byte for byte: at any moment, with any process dead or alive."""
    pieces = list(claimed(home, published))
    if not pieces:
        return
    with partial_data(home, published.only).open("rb") as data, published.source.open("rb") as source:
        for piece in pieces:
            data.seek(piece * PIECE)
            source.seek(piece * PIECE)
            assert data.read(PIECE) == source.read(PIECE), f"piece {piece} is claimed and isn't right"


@dataclass(kw_only=True)
class Killer:
    """Pulls again and again, and kills each at a random time. `advances`: what came before each kill; bytes."""

    home: Home
    published: Shelf
    peer: Peer
    dice: random.Random
    advances: list[int] = field(default_factory=list)

    def kill(self, times: int) -> None:
        """Kill so many pulls, not so late that one ends before."""
        for left in range(times, 0, -1):
            had = self.peer.uploaded
            with pulling(self.home, self.published.file, "--peer", self.peer.text) as pull:
                self._await_random_time(pull, left)
                pull.send(signal.SIGKILL)
                outcome = pull.end()
            assert outcome.status == -signal.SIGKILL, f"it ended before it was killed: {outcome.stderr[-2000:]}"
            assert_claims_are_true(self.home, self.published)
            self.advances.append(self.peer.uploaded - had)

    def _await_random_time(self, pull: Process, left: int) -> None:
        """A quarter die while they start; the others within a few moments of bytes coming."""
        if self.dice.random() < 0.25:
            hold(self.dice.uniform(0.0, 0.4))
            return
        pull.expect("pull_progress", lambda line: line["peers"] > 0 or line["done"] > 0)
        share = self.dice.uniform(0.0, 1.5) / (left + 1)
        rest = self.published.size - self.peer.uploaded
        hold(max(0.0, min(share * rest / LINK, 0.5 * rest / LINK)))


def finish(home: Home, published: Shelf, *peers: str, arguments: Iterator[object] | tuple[object, ...] = ()) -> Outcome:
    """Pull to the end, and see that all is as if nothing had ever happened."""
    told = [part for peer in peers for part in ("--peer", peer)]
    with pulling(home, published.file, *told, *arguments) as pull:
        outcome = pull.end(2 * LIMIT)
    assert outcome.status == 0, outcome.stderr[-4000:]
    assert_pulled(home, published)
    return outcome
