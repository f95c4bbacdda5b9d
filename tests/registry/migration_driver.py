"""Opens indexes that an older version made: dying at a step of it, or in several processes at once. Run by
test_migrations.

    python migration_driver.py kill HOME...     the n-th process dies before its n-th step
    python migration_driver.py race HOME...     four processes open each at the same moment

A step is a statement that the database gets, or a commit. `kill` prints which processes were killed, as JSON; `race`
exits with 1 if any process failed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import sqlalchemy as sa

from samara.registry.home import Home
from samara.registry.index import Index

PROCESSES = 4


def main() -> int:
    homes = [Home(Path(argument)) for argument in sys.argv[2:]]
    if sys.argv[1] == "kill":
        killed = []
        for step, home in enumerate(homes, start=1):
            status = os.waitpid(_opening(home, dying_at=step), 0)[1]
            assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
            killed.append(status != 0)
        json.dump(killed, sys.stdout)
        return 0
    failed = 0
    for home in homes:
        gate, opener = os.pipe()
        children = [_opening(home, gate=gate) for _ in range(PROCESSES)]
        os.write(opener, b"x" * PROCESSES)
        failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
        os.close(gate)
        os.close(opener)
    return 1 if failed else 0


def _opening(home: Home, *, dying_at: int | None = None, gate: int | None = None) -> int:
    child = os.fork()
    if child:
        return child
    try:
        if dying_at is not None:
            _die_at(dying_at)
        if gate is not None:
            os.read(gate, 1)
        Index.open(home).close()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def _die_at(step: int) -> None:
    left = step

    def count(*_arguments: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, moment, count)


if __name__ == "__main__":
    sys.exit(main())
