"""Makes one index in several processes at the same moment, over and over. Run by test_index.

    python index_race_driver.py FOLDER TIMES PROCESSES

Each child waits at one end of a pipe; the byte that lets one go lets all go. Exit 1 if any failed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from samara.registry.home import Home
from samara.registry.index import Index


def main() -> int:
    folder, times, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    Index.open(Home(folder / "warm")).close()  # everything imported: the children meet at the file, not on the way
    failed = 0
    for number in range(times):
        home = Home(folder / str(number))
        gate, opener = os.pipe()
        children = [_child(home, gate, opener) for _ in range(processes)]
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
        Index.open(home).close()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
