"""How swarms were, recorded every five minutes into the index and kept for 90 days: what charts are drawn of.

A sample stands for a step of time: seeders and leechers at its end, downloads that were completed in it. While the
database is gone samples wait, so many of them, and are recorded when it is back.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from samara.registry.listings import Listings
from samara.registry.swarm_samples import SwarmSample
from samara.registry.tracker.values import Counts

STEP = 300  # seconds
KEPT = 90 * 86_400  # seconds
FORGET_EVERY = 6 * 3600  # seconds
AT_ONCE = 200  # samples in one transaction
MAX_WAITING = 50_000  # samples; a hundred swarms for more than a day


class HealthRecorder:
    """Steps and what is to be recorded of them. For one thread; asks no clock."""

    def __init__(self, listings: Listings, *, step: int = STEP) -> None:
        self._listings = listings
        self._step = step
        self._waiting: dict[tuple[str, int], SwarmSample] = {}
        self._completed: dict[str, int] = {}
        self._at: int | None = None
        self._forgot_at = 0.0
        self._offset = float("inf")

    def is_due(self, now: float) -> bool:
        """Whether another step began since the last sample; at first, or when the clock was set back, at once."""
        return self._at != self._step_of(now)

    def take(self, swarms: Mapping[str, Counts], now: float) -> None:
        """Remember how swarms are, by blob. `completed` since the tracker began; `now`: UTC epoch seconds."""
        at = self._at = self._step_of(now)
        for b3, counts in swarms.items():
            before = self._completed.get(b3, 0)
            # fewer than before: the swarm was forgotten and is another one
            completed = counts.completed - before if counts.completed >= before else counts.completed
            if counts.peers or completed:
                self._waiting[b3, at] = SwarmSample(
                    at=at, seeders=counts.seeders, leechers=counts.leechers, completed=completed
                )
        self._completed = {b3: counts.completed for b3, counts in swarms.items() if counts.completed}
        for key in list(self._waiting)[: max(0, len(self._waiting) - MAX_WAITING)]:
            del self._waiting[key]

    def record(self, now: float, elapsed: float) -> int:
        """Write what waits; how many samples that were. Raises StoreError, DiskFullError: then they go on waiting.

        Some at a time: whoever publishes meanwhile waits for no more than that. `elapsed`: seconds of a clock that
        nobody sets; what is old is forgotten after hours in which both went alike: a clock that was set ahead forgets
        nothing as long as somebody sets it right by then.
        """
        if abs(now - elapsed - self._offset) > self._step:
            self._offset, self._forgot_at = now - elapsed, elapsed
        forget = elapsed - self._forgot_at >= FORGET_EVERY
        recorded = 0
        while self._waiting:
            keys = list(itertools.islice(self._waiting, AT_ONCE))
            self._listings.add_samples(
                [(b3, self._waiting[b3, at]) for b3, at in keys], forget_before=int(now) - KEPT if forget else 0
            )
            for key in keys:
                del self._waiting[key]
            recorded += len(keys)
            if forget:
                self._forgot_at, forget = elapsed, False
        return recorded

    @property
    def waiting(self) -> int:
        """Samples that aren't recorded yet."""
        return len(self._waiting)

    def _step_of(self, now: float) -> int:
        return int(now) // self._step * self._step
