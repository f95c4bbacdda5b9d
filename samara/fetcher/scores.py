"""What is known of a source, and whether to ask it again. Pure: facts, the time and the dice are arguments.

A source earns its rate by delivering. A failure that may pass costs it a wait, longer each time, drawn by lot so that a
thousand fetchers don't come back at once; one that won't pass ends it. Wrong bytes end it for the whole pull, and the
evidence is kept for whoever asks why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from samara.registry.http.failures import HttpFailure

MEMORY = 20.0  # seconds of delivering after which an old rate counts for a third
FIRST_WAIT = 0.5  # seconds: bounds the wait after one failure, doubled with each further
LONGEST_WAIT = 60.0  # seconds: and no further than this
MOST_OBEYED = 600.0  # seconds that a Retry-After is heeded: a pull is not put off for an afternoon by one header
GONE_FOR = 1800.0  # seconds after which what wasn't there, or not for us, is looked for again: publishers mend things

_FOR_GOOD = frozenset({HttpFailure.POLICY, HttpFailure.TLS})
_PASSING_4XX = frozenset({408, 421, 423, 425, 429})  # time out, wrong connection, locked, too early, too many
_LASTING_5XX = frozenset({501, 505, 511})

Source = TypeVar("Source")


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One source's. `until`: seconds on the caller's clock before which it isn't asked; `evidence`: why it is banned.

    `failures`: in a row, since it last delivered. `weighed_bytes` and `weighed_seconds`: what it delivered, and in what
    time, the latest counting most.
    """

    failures: int = 0
    until: float = -math.inf
    evidence: str | None = None
    weighed_bytes: float = 0.0
    weighed_seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Bytes per second, of late; None while it has delivered nothing."""
        return self.weighed_bytes / self.weighed_seconds if self.weighed_seconds else None

    @property
    def is_banned(self) -> bool:
        """Whether it was caught."""
        return self.evidence is not None

    def delivered(self, size: int, seconds: float) -> Score:
        """It sent so many bytes in so many seconds, both above 0. A wait that it asked for stands: who serves one
        connection and tells the next one to come later means it.
        """
        keep = math.exp(-seconds / MEMORY)  # by time, not by number: a small span says little
        return replace(
            self,
            failures=0,
            weighed_bytes=self.weighed_bytes * keep + size,
            weighed_seconds=self.weighed_seconds * keep + seconds,
        )

    def failed(
        self, kind: HttpFailure, now: float, lot: float, *, status: int | None = None, retry_after: float | None = None
    ) -> Score:
        """It failed. `lot`: 0 … 1, by chance; `retry_after`: seconds it asks for, heeded up to MOST_OBEYED.

        The wait is drawn from 0 … the bound ("full jitter"), and is what the source asks for if that is longer. Waits
        only grow: a failure of one connection doesn't shorten what another one learned.
        """
        failures = self.failures + 1
        wait = _lasting(kind, status)
        if wait is None:
            # beyond 2⁶⁴ the bound is LONGEST_WAIT anyway, and beyond 2¹⁰²⁴ there is no float
            wait = lot * min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 64))
            wait = max(wait, min(retry_after or 0.0, MOST_OBEYED))
        return replace(self, failures=failures, until=max(self.until, now + wait))

    def banned(self, evidence: str) -> Score:
        """It sent wrong bytes, or its object is another one now. The first evidence stays."""
        return self if self.is_banned else replace(self, evidence=evidence)

    def usable_at(self, now: float) -> bool:
        """Whether it may be asked now."""
        return not self.is_banned and now >= self.until


def order(scores: Mapping[Source, Score], now: float) -> list[Source]:
    """Those that may be asked now, best first.

    Those never asked come first, for how else would they show what they can; then by rate, halved for each failure
    since; last those that have only ever failed, the least often first. Equals stay in the order given.
    """
    usable = {source: score for source, score in scores.items() if score.usable_at(now)}
    return sorted(usable, key=lambda source: _rank(usable[source]))


def _rank(score: Score) -> tuple[int, float]:
    if score.rate is None:
        return (0, 0.0) if score.failures == 0 else (2, score.failures)
    return (1, -score.rate / 2.0 ** min(score.failures, 64))


def _lasting(kind: HttpFailure, status: int | None) -> float | None:
    """For how many seconds there is no point in asking again; None if there is at once."""
    if kind in _FOR_GOOD:
        return math.inf
    if kind is HttpFailure.REDIRECT or (kind is HttpFailure.PROXY and status in (403, 407)):
        return GONE_FOR
    if kind is not HttpFailure.STATUS or status is None:
        return None
    passes = status in _PASSING_4XX or (status >= 500 and status not in _LASTING_5XX)
    return None if passes else GONE_FOR
