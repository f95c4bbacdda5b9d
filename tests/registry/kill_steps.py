"""An action that writes, killed at every step of it; what each kill left is looked at. For drivers: it forks.

A step is one fsync, or one rename before or after it happened. For each step a forked child does the action from the
start and dies there by SIGKILL; then the parent, unharmed, checks the promises.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from trust_kit import home_at

from samara.registry.home import Home

# what comes before; the action; the check, which is told whether the action came to its end
Action = tuple[Callable[[Home], None], Callable[[Home], None], Callable[[Home, bool], None]]


def kill_everywhere(actions: Mapping[str, Action], folder: Path) -> None:
    """Every action at every step. Prints `action steps` lines."""
    for name, action in actions.items():
        sys.stdout.write(f"{name} {_steps(name, action, folder / name)}\n")


def _steps(name: str, action: Action, folder: Path) -> int:
    prepare, act, check = action
    for step in range(1, 1000):
        home = home_at(folder / str(step))
        prepare(home)
        finished = not _killed_at(step, act, home)
        check(home, finished)
        if finished:
            return step - 1
    raise AssertionError(f"{name} never ended")


def _killed_at(step: int, act: Callable[[Home], None], home: Home) -> bool:
    child = os.fork()
    if child == 0:
        _arm(step)
        act(home)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"the child failed by itself: {status}"
    return killed


def _arm(step: int) -> None:
    left = step
    fsync, replace = os.fsync, os.replace

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counting_fsync(fd: int) -> None:
        count()
        fsync(fd)

    def counting_replace(source: str, target: str) -> None:
        count()
        replace(source, target)
        count()

    os.fsync = counting_fsync  # type: ignore[assignment]
    os.replace = counting_replace  # type: ignore[assignment]
