"""SIGKILL at a step or an event: for processes that a test starts to have them die in the middle of their work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from samara.schemas.events import Event, Reached


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


def dying_at(moment: str) -> Callable[[Event], None]:
    """To be told of events; kills this process at `point:n`, the n-th time that one reports Reached(point=…), or at
    `event:n`, the n-th of all of them.
    """
    point, _, number = moment.partition(":")
    seen: Counter[str] = Counter()

    def watch(event: Event) -> None:
        if isinstance(event, Reached):
            seen.update((event.point, "event"))
            if seen[point] == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

    return watch


def forked(act: Callable[[], object]) -> bool:
    """Act in a child: this process must have no threads when it forks. True: it died by SIGKILL, False: it ended."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"the child failed by itself: {status}"
    return killed
