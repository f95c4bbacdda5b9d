"""SIGKILL at a step: for processes that a test starts to have them die in the middle of their work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any


def die_at_step(step: int, calls: Iterable[str]) -> None:
    """Let this process kill itself at the `step`th moment before or after one of these functions of `os`."""
    left = step
    lock = threading.Lock()  # work may go on in several threads

    def count() -> None:
        nonlocal left
        with lock:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def step_of(*arguments: Any, **named: Any) -> Any:
            count()
            done = real(*arguments, **named)
            count()
            return done

        return step_of

    for name in calls:
        setattr(os, name, counting(getattr(os, name)))
