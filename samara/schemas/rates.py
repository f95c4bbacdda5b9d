"""Speed and time left, from (bytes, moment) pairs. Pure: the caller brings the clock."""

from __future__ import annotations

from collections import deque

MAX_RATE = 2**31 - 1  # bytes per second: the largest cap that libtorrent can hold
_WINDOW = 5.0  # seconds over which speed is averaged: steady enough to read, quick enough to show a stall


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
