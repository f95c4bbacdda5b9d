"""How a swarm was over time, as paths for an SVG and as a table of the same. Pure.

The recorder writes a sample only while a swarm has peers: where none was written, nobody was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samara.registry.swarm_samples import SwarmSample

WIDTH, HEIGHT = 640, 140
_BUCKETS = 112
_ROWS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The most peers at once between two moments (UTC epoch seconds)."""

    start: int
    end: int
    seeders: int
    leechers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """What to draw and to read. `seeders` is an area, `leechers` a line; `highest`: peers at the upper edge."""

    since: int
    until: int
    highest: int
    seeders: str
    leechers: str
    rows: tuple[Span, ...]


def chart(samples: Sequence[SwarmSample], *, since: int, until: int) -> Chart | None:
    """A swarm between two moments; None if nobody was seen in it. Samples before `since` or after `until` don't count.

    Raises ValueError unless `since` < `until`.
    """
    if not since < until:
        raise ValueError("a chart of no time")
    spans = buckets(samples, since=since, until=until, count=_BUCKETS)
    highest = max(max(one.seeders, one.leechers) for one in spans)
    if highest == 0:
        return None
    top = round_up(highest)
    return Chart(
        since=since,
        until=until,
        highest=top,
        seeders=f"M0 {HEIGHT}{_steps([one.seeders for one in spans], top)}V{HEIGHT}z",
        leechers=f"M0 {_y(spans[0].leechers, top)}{_steps([one.leechers for one in spans], top)}",
        rows=buckets(samples, since=since, until=until, count=_ROWS),
    )


def buckets(samples: Sequence[SwarmSample], *, since: int, until: int, count: int) -> tuple[Span, ...]:
    """The time in `count` equal parts, with the most peers that a sample of each says."""
    seeders, leechers = [0] * count, [0] * count
    for sample in samples:
        if since <= sample.at < until:
            number = (sample.at - since) * count // (until - since)
            seeders[number] = max(seeders[number], sample.seeders)
            leechers[number] = max(leechers[number], sample.leechers)
    edges = [since + (until - since) * number // count for number in range(count + 1)]
    return tuple(Span(start=edges[i], end=edges[i + 1], seeders=seeders[i], leechers=leechers[i]) for i in range(count))


def round_up(highest: int) -> int:
    """The next number that people read easily: 1, 2, 5, 10, 20, 50…"""
    unit = 1
    while True:
        for step in (1, 2, 5):
            if highest <= step * unit:
                return step * unit
        unit *= 10


def _y(value: int, top: int) -> int:
    return HEIGHT - value * HEIGHT // top


def _steps(values: Sequence[int], top: int) -> str:
    """Path data from left to right; equal neighbours are one step."""
    parts: list[tuple[int, int]] = []  # value, where it ends
    for number, value in enumerate(values, start=1):
        if parts and parts[-1][0] == value:
            parts.pop()
        parts.append((value, number * WIDTH // len(values)))
    out, at = [], 0
    for value, end in parts:
        out.append(f"L{at} {_y(value, top)}H{end}")
        at = end
    return "".join(out)
