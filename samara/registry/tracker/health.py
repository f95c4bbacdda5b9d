"""How swarms were, recorded every five minutes into the index and kept for 90 days: what charts are drawn of.

A sample stands for a step of time: seeders and leechers at its end, downloads that were completed in it. While the
database is gone samples wait, so many of them, and are recorded when it is back.
"""

from __future__ import annotations

from collections.abc import Mapping

from samara.registry.listings import Listings, SwarmSample
from samara.registry.tracker.values import Counts

STEP = 300  # seconds
KEPT = 90 * 86_400  # seconds
MAX_WAITING = 50_000  # samples; a hundred swarms for more than a day


class HealthRecorder:
    """Steps and what is to be recorded of them. For one thread; asks no clock."""

    def __init__(self, listings: Listings, *, step: int = STEP) -> None:
        self._listings = listings
        self._step = step
        self._waiting: dict[tuple[str, int], SwarmSample] = {}
        self._completed: dict[str, int] = {}
        self._at: int | None = None

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

    def record(self, now: float) -> int:
        """Write what waits; how many samples that were. Raises StoreError, DiskFullError: then they go on waiting."""
        samples = [(b3, sample) for (b3, _), sample in self._waiting.items()]
        self._listings.add_samples(samples, forget_before=int(now) - KEPT)
        self._waiting.clear()
        return len(samples)

    @property
    def waiting(self) -> int:
        """Samples that aren't recorded yet."""
        return len(self._waiting)

    def _step_of(self, now: float) -> int:
        return int(now) // self._step * self._step
