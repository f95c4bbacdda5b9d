"""What an idle connection gets to do: which mirror it asks, and for which pieces. Decides; begins and ends nothing.

In this order: pieces that are missing and that peers aren't at; what peers are at, if they are about to take long; what
a slow connection has before it (`spans` says how much). And the other way round: what a mirror will take long for is
offered to peers when they have nothing else to bring.

    look = Look(name=…, blob=…, now=…, patience=…, at_peers=…)
    errand = look.next_errand(by_worth(blob, connections, now))
    ask_for = look.pieces_for_peers()
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from samara.fetcher.mirrors.blob import BlobState, Mirror
from samara.fetcher.mirrors.board import PieceState
from samara.fetcher.mirrors.spans import (
    ALONE_MAY_TAKE,
    SWARM_MAY_TAKE,
    TakeOver,
    fair_span,
    half_of,
    slowest_of,
    take_over,
)
from samara.fetcher.mirrors.worker import Task
from samara.fetcher.scores import order

PER_HOST = 3  # connections to one host: more get more out of a lossy link, and servers answer many with 429
PEERS_COME_WITHIN = 5.0  # seconds in which pieces are left for peers that nobody has seen yet
OFFERED_FOR = 1.0  # seconds in which peers may begin with what they are offered


def by_worth(blob: BlobState, connections: Mapping[str, int], now: float) -> list[Mirror]:
    """Mirrors that may be asked now: those with the fewest `connections` (by host) first, of these the best."""
    usable = [
        mirror
        for mirror in blob.mirrors.values()
        if mirror.score.usable_at(now) and connections.get(mirror.host, 0) < PER_HOST
    ]
    best = order({mirror.url: mirror.score for mirror in usable}, now)
    return sorted(usable, key=lambda mirror: (connections.get(mirror.host, 0), best.index(mirror.url)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """A task for an idle connection, and the pieces that peers must not be asked for meanwhile."""

    task: Task
    hold_back: Collection[int] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A look at one blob at one time. `at_peers`: the pieces that peers are at, as of the moment it is called;
    `patience`: seconds that a piece may take a mirror whose speed nobody knows.
    """

    name: str
    blob: BlobState
    now: float
    patience: float
    at_peers: Callable[[], frozenset[int]]

    def next_errand(self, mirrors: Sequence[Mirror]) -> Errand | None:
        """Something for the first of these that there is something for; its pieces are taken from the board."""
        return next((errand for mirror in mirrors if (errand := self._errand(mirror)) is not None), None)

    def _errand(self, mirror: Mirror) -> Errand | None:
        if not mirror.ranges:
            return self._whole_file(mirror)
        span = hold_back = self._missing_span(mirror)
        if not span:
            span = self._taken_over(mirror)
        if not span:
            return None
        fragment = self.blob.fragments.pop(span.start, None)
        if fragment is not None and not self.blob.may_continue(fragment, mirror.url):
            fragment = None
        task = Task(
            torrent=self.name, url=mirror.url, proof=self.blob.proof, start=span.start, stop=span.stop,
            fragment=fragment, continues=fragment is not None,
            answered=mirror.answered, validator=mirror.validator, began=self.now,
        )  # fmt: skip
        return Errand(task=task, hold_back=hold_back)

    def _missing_span(self, mirror: Mirror) -> range:
        blob, length = self.blob, self.blob.proof.hashes.piece_length
        at_most = fair_span(
            mirror.score.rate,
            missing=blob.board.missing_count() * length,
            others=len(blob.tasks),
            peers=bool(blob.swarm_peers or (blob.with_peers and self.now - blob.began < PEERS_COME_WITHIN)),
        )
        leave = self.at_peers() | blob.offered_at(self.now)
        span = blob.take(at_most // length, mirror.url, leave=leave)
        if span or not blob.board.missing_count():
            blob.starved_at = None
            return span
        # nothing is missing but what peers are at
        blob.starved_at = self.now if blob.starved_at is None else blob.starved_at
        patience = SWARM_MAY_TAKE if blob.swarm_peers else ALONE_MAY_TAKE
        get_on = blob.swarm_peers and blob.board.missing_count() * length <= SWARM_MAY_TAKE * blob.swarm_rate
        if get_on or self.now - blob.starved_at < patience:
            return range(0)
        return blob.take(at_most // length, mirror.url)

    def _whole_file(self, mirror: Mirror) -> Errand | None:
        """A server without ranges is read from its beginning, and only while nobody else brings anything."""
        blob = self.blob
        if blob.tasks or blob.swarm_rate > 0 or blob.may_get_ranges(self.now):
            return None
        wanted = blob.take_all()
        if not wanted:
            return None
        task = Task(
            torrent=self.name, url=mirror.url, proof=blob.proof, start=0, stop=max(wanted) + 1, wanted=wanted,
            began=self.now,
        )  # fmt: skip
        return Errand(task=task, hold_back=wanted)

    def _taken_over(self, mirror: Mirror) -> range:
        """What an idle connection takes from a slow one."""
        blob = self.blob
        found: TakeOver | None = take_over(
            [task.under_way(self.now) for task in blob.tasks], blob.proof.hashes.piece_length,
            url=mirror.url, rate=mirror.score.rate, patience=self.patience,
        )  # fmt: skip
        if found is None:
            return range(0)
        if found.again:
            piece = found.stop
            return range(piece, piece + 1) if blob.board.state(piece) is PieceState.TAKEN else range(0)
        pieces = blob.cut(blob.tasks[found.index], found.stop)
        return blob.board.take(len(pieces), start=pieces[0]) if pieces else range(0)

    def pieces_for_peers(self) -> range:
        """Peers have nothing left to bring, and a mirror will take long yet: let them bring what it has before it.

        What is cut off its task is left for them for a while; of a task with one piece alone, that one: to be asked of
        them too.
        """
        blob = self.blob
        if not blob.swarm_peers or blob.board.missing_count():
            return range(0)
        under_way = [task.under_way(self.now) for task in blob.tasks]
        slowest = slowest_of(under_way, blob.proof.hashes.piece_length, more_than=SWARM_MAY_TAKE)
        if slowest is None:
            return range(0)
        task, left = blob.tasks[slowest], under_way[slowest].left
        if len(left) > 1:
            blob.offer(blob.cut(task, half_of(under_way[slowest])), until=self.now + OFFERED_FOR)
        elif not task.shared:
            task.shared = True
            return left
        return range(0)
