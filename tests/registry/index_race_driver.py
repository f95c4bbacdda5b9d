"""Opens indexes in several processes at the same moment, one index after the other. Run by tests of both databases.

    python index_race_driver.py PROCESSES open|upgrade FOLDER[=URL]...

Each child waits at one end of a pipe; the byte that lets one go lets all go. `upgrade`: each upgrades the index before
it opens it. Exit 1 if any failed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.upkeep import upgrade


def main() -> int:
    processes, upgrades = int(sys.argv[1]), {"open": False, "upgrade": True}[sys.argv[2]]
    with tempfile.TemporaryDirectory() as folder:  # everything imported: the children meet at the index, not on the way
        Index.open(Home(Path(folder))).close()
    failed = 0
    for text in sys.argv[3:]:
        path, _, url = text.partition("=")
        home = Home(Path(path), url or None)
        gate, opener = os.pipe()
        children = [_child(home, gate, opener, upgrades=upgrades) for _ in range(processes)]
        os.close(gate)
        os.write(opener, b"x" * processes)
        os.close(opener)
        failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return 1 if failed else 0


def _child(home: Home, gate: int, opener: int, *, upgrades: bool) -> int:
    child = os.fork()
    if child:
        return child
    os.close(opener)
    os.read(gate, 1)
    try:
        if upgrades:
            upgrade(home, now=time.time())
        Index.open(home).close()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
