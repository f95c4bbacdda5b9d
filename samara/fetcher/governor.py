"""One cap on what comes in, for swarm and mirrors together. Arithmetic only: it waits for nobody.

libtorrent keeps a cap of its own; mirrors are held by a TokenBucket: who has read says how much, and waits for as long
as it is told. `split_limit` moves what one side leaves unused to the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST = 0.25  # seconds' worth that may come at once after a pause: small, or a cap isn't one
RESERVE = 1 / 10  # of the cap, for a side that has work
GLIMPSE = 1 / 40  # of the cap, for a side that has none: so that new work can show itself
LEAN = 1 / 32  # of their difference, from the larger side to the smaller, each time
_HAS_WORK = 1 / 100  # of the cap: who brings less is as good as idle


class TokenBucket:
    """Bytes per second, for any number of threads. `rate` 0: no cap. `clock`: seconds, never going back."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rate = float(rate)
        self._tokens = 0.0  # bytes that may come at once; below 0: bytes that came too early
        self._at = clock()

    def take(self, size: int, now: float) -> float:
        """So many bytes came: the seconds to wait before more may come. 0 bytes: how much of a wait is left.

        The bytes are counted at once, whoever waits: two that take at the same time wait one after the other.
        """
        with self._lock:
            self._settle(now)
            if not self._rate:
                return 0.0
            self._tokens -= size
            return max(0.0, -self._tokens / self._rate)

    def wait_for(self, size: int) -> float:
        """`take`, now."""
        return self.take(size, self._clock())

    def set_rate(self, rate: float) -> None:
        """Another cap from now on. What came too early stays owed; who waits already may ask anew: `wait_for(0)`."""
        with self._lock:
            self._settle(self._clock())
            self._rate = float(rate)
            self._tokens = min(self._tokens, self._rate * BURST) if rate else 0.0

    def _settle(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = max(self._at, now)
        self._tokens = min(self._tokens + passed * self._rate, self._rate * BURST)


def split_limit(limit: int, swarm_used: float, http_used: float) -> tuple[int, int]:
    """(cap of the swarm, cap of the mirrors), together `limit`. All in bytes per second; `used`: what came of late.

    Asked again and again: each side keeps what it uses and gets half of what nobody does, so that what one side can't
    use is the other's after a few rounds; and of two that use all they get, the larger yields a little each time. A
    side with work never gets less than RESERVE. No cap is 0, which would mean none: below 2 bytes per second, 2.
    """
    limit = max(2, limit)
    swarm, http = max(0.0, swarm_used), max(0.0, http_used)
    works_swarm, works_http = swarm >= limit * _HAS_WORK, http >= limit * _HAS_WORK
    share = swarm + (limit - swarm - http) / 2
    if works_swarm and works_http:
        share += (http - swarm) * LEAN
    least = limit * (RESERVE if works_swarm else GLIMPSE)
    most = limit - limit * (RESERVE if works_http else GLIMPSE)
    cap = min(max(1, round(min(max(share, least), most))), limit - 1)
    return cap, limit - cap
