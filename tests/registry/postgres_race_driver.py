"""Opens and upgrades indexes in PostgreSQL in several processes at the same moment. Run by test_postgres_index.

    python postgres_race_driver.py FOLDER PROCESSES URL...

Exit 1 if any failed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.upkeep import upgrade


def main() -> int:
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    failed = 0
    for url in sys.argv[3:]:
        gate, opener = os.pipe()
        children = [_child(Home(folder, url), gate, opener) for _ in range(processes)]
        os.close(gate)
        os.write(opener, b"x" * processes)
        os.close(opener)
        failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return 1 if failed else 0


def _child(home: Home, gate: int, opener: int) -> int:
    child = os.fork()
    if child:
        return child
    os.close(opener)
    os.read(gate, 1)
    try:
        upgrade(home)
        Index.open(home).close()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
