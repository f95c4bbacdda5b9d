"""Repairs, and dies by SIGKILL before or after the n-th durable or visible step. Run by test_repair.

    python repair_kill_driver.py HOME TARGET HOST PORT STEP

STEP 0 never dies. A step is before or after an fsync, a rename or a link.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samara.fetcher.pull import PullOptions
from samara.fetcher.repair import repair
from samara.registry.home import Home
from samara.seeder.swarm_options import SwarmOptions


def main(home: str, target: str, host: str, port: str, step: str) -> None:
    if int(step):
        _arm(int(step))
    how = PullOptions(
        swarm=SwarmOptions(listen=("127.0.0.1:0",)).without_discovery(), peers=((host, int(port)),), give_up_after=20.0
    )
    repair(Home(Path(home)), target, how)


def _arm(step: int) -> None:
    left = step
    lock = threading.Lock()  # a transfer has several threads

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

    for name in ("fsync", "fdatasync", "replace", "rename", "link", "chmod"):
        setattr(os, name, counting(getattr(os, name)))


if __name__ == "__main__":
    main(*sys.argv[1:])
