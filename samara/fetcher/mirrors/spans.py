"""Who gets how much, and what the idle take from the slow. Pure: what is under way, rates and times are arguments.

Each source gets spans of a few seconds of its own speed. When nothing is left to take, an idle one takes half of what
the slowest still has before it, and at the very end repeats a piece that a slow one is at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SPAN_SECONDS = 4.0  # what one request asks for, at the speed its source has shown
FIRST_SPAN = 4 << 20  # bytes, before it has shown any
SHORTEST_SPAN = 1 << 20  # bytes, but for the last ones
LONGEST_SPAN = 256 << 20  # bytes
WORTH_TAKING = 4.0  # seconds left: what is under way already when a connection is cut short is wasted
TOO_YOUNG = 2.0  # seconds in which a connection's speed says nothing yet
SWARM_MAY_TAKE = 3.0  # seconds that peers or mirrors may need for what is left before the others are asked for it too
ALONE_MAY_TAKE = 0.5  # the same where pieces have come in part and no peer is there to bring the rest


@dataclass(frozen=True, kw_only=True, slots=True)
class UnderWay:
    """One connection's work. `left`: pieces it hasn't brought, `of_piece` bytes of the first of which have come.

    `received`: bytes so far, in `seconds`.
    """

    url: str
    left: range
    of_piece: int
    received: int
    seconds: float

    def seconds_left(self, piece_length: int) -> float:
        """How long it still needs at the speed it has shown; 0 while it is too young to tell."""
        if self.seconds < TOO_YOUNG:
            return 0.0
        left = len(self.left) * piece_length - self.of_piece
        return left * self.seconds / self.received if self.received else self.seconds * 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeOver:
    """What somebody idle takes from number `index` of those under way: the pieces from `stop` on; or, if `again`, the
    one piece that it is at, once more.
    """

    index: int
    stop: int
    again: bool = False


def fair_span(rate: float | None, *, missing: int, others: int, peers: bool) -> int:
    """How many bytes to ask for at once: some seconds' worth, and never more than leaves all others work.

    Each request takes a part of what is `missing`, so that requests get smaller towards the end and all who give end
    together. `rate`: bytes per second, None if unknown; `others`: connections at work.
    """
    wanted = FIRST_SPAN if rate is None else min(LONGEST_SPAN, rate * SPAN_SECONDS)
    least = SHORTEST_SPAN if rate is None else max(SHORTEST_SPAN, rate * SPAN_SECONDS / 8)
    givers = 1 + others + (2 if peers else 0)
    return int(min(wanted, max(least, missing / (2 * givers))))


def slowest_of(under_way: Sequence[UnderWay], piece_length: int, *, more_than: float) -> int | None:
    """Which of them needs longest, if that is more than so many seconds."""
    at_work = [index for index, one in enumerate(under_way) if one.left]
    if not at_work:
        return None
    index = max(at_work, key=lambda index: under_way[index].seconds_left(piece_length))
    return index if under_way[index].seconds_left(piece_length) > more_than else None


def half_of(one: UnderWay) -> int:
    """Where to cut what it has before it, so that it keeps the piece it is at and half of the others."""
    beyond = len(one.left) - 1
    return one.left.stop - (beyond + 1) // 2


def take_over(
    under_way: Sequence[UnderWay], piece_length: int, *, url: str, rate: float | None, patience: float
) -> TakeOver | None:
    """What an idle connection to `url`, of this `rate` (bytes per second), takes from the others.

    A piece is repeated by another source only, if that is surely quicker; where its rate is unknown, `patience` is how
    long it may take.
    """
    index = slowest_of(under_way, piece_length, more_than=WORTH_TAKING)
    if index is None:
        return None
    slowest = under_way[index]
    needs = slowest.seconds_left(piece_length)
    beyond = len(slowest.left) - 1
    if beyond > 0:
        if rate and beyond * piece_length / rate > needs:  # a slower one takes less
            return TakeOver(index=index, stop=slowest.left.stop - max(1, beyond // 8))
        return TakeOver(index=index, stop=half_of(slowest))
    repeated = sum(one.left[:1] == slowest.left[:1] for one in under_way) > 1
    mine = piece_length / rate if rate else patience
    if repeated or slowest.url == url or needs < 2 * mine + 1.0:
        return None
    return TakeOver(index=index, stop=slowest.left.start, again=True)
