"""What a registry that mirrors should hold, and what goes when room is needed. Pure: facts and time in, choices out.

    targets(blobs, quota)             what to hold, in the order in which to fetch it
    eviction_order(facts, now)        what may go, what goes first first
    evictions(facts, needed, now)     so much of that as gives back `needed` bytes

Between publishers bytes are shared out evenly, so that one that publishes much leaves room for the others. Of one
publisher what was listed or asked for last comes first. Bytes are those of the disk, times UTC epoch seconds.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

HOT = 6 * 3600.0  # seconds in which what a reader asked for stays, though mirroring wants something else there
BUSY = 600.0  # seconds in which what was asked for counts as being given still


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A listed blob that may be held. `asked_at`: when somebody had it last, 0 if nobody did."""

    b3: str
    size: int
    identity: str
    listed_at: float
    asked_at: float = 0.0

    @property
    def wanted_at(self) -> float:
        """When anybody showed interest last: its publisher by listing it, others by asking."""
        return max(self.listed_at, self.asked_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptFact:
    """A blob that is here because it was mirrored or pulled through, whole or in part. `bytes`: of disk that it takes.

    `listed_at`: None if it is no longer listed. `is_needed`: it is being fetched, or somebody here uses it.
    """

    b3: str
    bytes: int
    asked_at: float
    listed_at: float | None
    withdrawn: bool = False
    is_needed: bool = False


def targets(blobs: Iterable[Wanted], quota: int | None, *, hot: Collection[str] = frozenset()) -> tuple[Wanted, ...]:
    """What to hold, the most urgent first: always the publisher's turn that has the fewest bytes so far.

    What doesn't fit into `quota` (bytes; None: no bound) any more is left out, and smaller ones after it are not.
    `hot` (b3): what is here because somebody asked for it of late. That stays, as far as half the quota: else it would
    go for what mirroring wants, and be pulled again for whoever asks next, in turns.
    """
    listed = tuple(blobs)
    staying, had_by = _staying(listed, quota, hot)
    kept = {blob.b3 for blob in staying}
    owners: defaultdict[str, list[Wanted]] = defaultdict(list)
    for blob in listed:
        if blob.b3 not in kept:
            owners[blob.identity].append(blob)
    for mine in owners.values():  # the last one is next
        mine.sort(key=lambda blob: (blob.wanted_at, -blob.size, blob.b3))
    turns = [(had_by[identity], -mine[-1].wanted_at, identity) for identity, mine in owners.items()]
    heapq.heapify(turns)
    chosen: list[Wanted] = list(staying)
    total = sum(blob.size for blob in staying)
    while turns:
        had, _, identity = heapq.heappop(turns)
        mine = owners[identity]
        blob = mine.pop()
        if quota is None or total + blob.size <= quota:
            chosen.append(blob)
            total += blob.size
            had += blob.size
        if mine:
            heapq.heappush(turns, (had, -mine[-1].wanted_at, identity))
    return tuple(chosen)


def _staying(
    blobs: Iterable[Wanted], quota: int | None, hot: Collection[str]
) -> tuple[list[Wanted], defaultdict[str, int]]:
    """(what is hot and stays, the bytes of it that each publisher has)."""
    found: list[Wanted] = []
    had_by: defaultdict[str, int] = defaultdict(int)
    total = 0
    for blob in sorted((one for one in blobs if one.b3 in hot), key=lambda one: (-one.asked_at, one.b3)):
        if quota is None or total + blob.size <= quota // 2:
            found.append(blob)
            total += blob.size
            had_by[blob.identity] += blob.size
    return found, had_by


def eviction_order(
    facts: Iterable[KeptFact], *, now: float, keep: Collection[str] = frozenset(), busy: float = BUSY
) -> list[KeptFact]:
    """What may go, first what goes first: withdrawn, no longer listed, then what nobody has wanted for longest.

    What was wanted in the future, by a clock that was set back since, was wanted now. Never what is needed or was asked
    for within `busy` seconds; of what is listed, nothing in `keep` (b3).
    """
    may_go = [
        fact
        for fact in facts
        if not fact.is_needed
        and not 0 <= now - fact.asked_at < busy
        and (fact.b3 not in keep or fact.withdrawn or fact.listed_at is None)
    ]
    return sorted(may_go, key=lambda fact: (_rank(fact), min(now, max(fact.asked_at, fact.listed_at or 0.0)), fact.b3))


def evictions(
    facts: Iterable[KeptFact],
    needed: int,
    *,
    now: float,
    keep: Collection[str] = frozenset(),
    busy: float = BUSY,
) -> tuple[KeptFact, ...] | None:
    """What must go to give back `needed` bytes; None if that can't be had."""
    chosen: list[KeptFact] = []
    for fact in eviction_order(facts, now=now, keep=keep, busy=busy):
        if needed <= 0:
            break
        if fact.bytes > 0:
            chosen.append(fact)
            needed -= fact.bytes
    return tuple(chosen) if needed <= 0 else None


def _rank(fact: KeptFact) -> int:
    if fact.withdrawn:
        return 0
    return 1 if fact.listed_at is None else 2
