"""Waiting for what nobody tells of: a count, a file of another process. Where there is an event, wait for that."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT = 60.0  # seconds that any one wait may take
_LOOK_EVERY = 0.01


def eventually(is_so: Callable[[], bool], what: str = "it never became so", *, limit: float = LIMIT) -> None:
    """Until something is so; the test fails if it never is."""
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(_LOOK_EVERY)
