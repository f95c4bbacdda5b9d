"""Progress of hashing one file, a few times a second. Reads the clock and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

from samara.schemas.events import HashProgress, OnEvent
from samara.schemas.rates import RateMeter

_EVERY = 0.1  # seconds


def hash_progress(name: str, size: int, on_event: OnEvent) -> Callable[[int], None]:
    """An `on_progress` for `hash_file` that emits HashProgress under `name`."""
    meter = RateMeter(total=size)
    last = 0.0

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _EVERY and done < size:
            return
        last = now
        rate, eta = meter.at(done, now)
        on_event(HashProgress(path=name, done=done, total=size, rate=rate, eta=eta))

    return report
