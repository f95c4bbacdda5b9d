"""Progress of reading or copying one file, a few times a second. Reads the clock and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

from samara.schemas.events import CheckProgress, HashProgress, OnEvent, ReuseProgress
from samara.schemas.rates import RateMeter

_EVERY = 0.1  # seconds

OnProgress = Callable[[int], None]
"""Told the bytes done so far."""


def reporting(
    kind: type[HashProgress | CheckProgress | ReuseProgress], name: str, total: int, on_event: OnEvent
) -> OnProgress:
    """An `on_progress` that emits `kind` under `name`, with speed and time left, and always at the end."""
    meter = RateMeter(total=total)
    last = 0.0

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _EVERY and done < total:
            return
        last = now
        rate, eta = meter.at(done, now)
        on_event(kind(path=name, done=done, total=total, rate=rate, eta=eta))

    return report
