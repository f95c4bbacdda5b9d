"""Rates as people write them; speed and time left, from (bytes, moment) pairs. Pure: the caller brings the clock."""

from __future__ import annotations

import re
from collections import deque

from samara.schemas.errors import UsageError

MAX_RATE = 2**31 - 1  # bytes per second: the largest cap that libtorrent can hold
_WINDOW = 5.0  # seconds over which speed is averaged: steady enough to read, quick enough to show a stall
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?(?:/s)?\Z", re.IGNORECASE)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def parse_rate(text: str | None) -> int:
    """`500k`, `2M`, `1.5MB/s` → bytes per second; None → 0, no cap. Raises UsageError."""
    if text is None:
        return 0
    found = _RATE.match(text.strip())
    rate = float(found[1]) * _UNITS[found[2].lower()] if found else 0.0
    if not 1 <= rate <= MAX_RATE:
        raise UsageError(
            "not a rate", expected="a number of bytes per second such as 500k or 2M, up to 2.1G", actual=repr(text[:80])
        )
    return int(rate)


class RateMeter:
    """Averages over the last few seconds."""

    def __init__(self, *, total: int) -> None:
        self._total = total
        self._points: deque[tuple[float, int]] = deque()

    def at(self, done: int, now: float) -> tuple[float, float | None]:
        """(bytes per second, seconds left or None while that can't be known)."""
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > _WINDOW:
            self._points.popleft()
        then, before = self._points[0]
        rate = (done - before) / (now - then) if now > then else 0.0
        return rate, ((self._total - done) / rate if rate > 0 else None)
