"""Removes, or makes things, and dies by SIGKILL before or after the n-th change to the disk. Run by test_space_kills.

    python space_kill_driver.py < CASES

CASES is a JSON list of {home, act, argument, step}. Prints for each whether it was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

from support.kills import die_at_step

from samara.fetcher.clean import prune, remove
from samara.fetcher.housekeeping import DAY, Rules
from samara.fetcher.partial import Partial
from samara.registry.durable import write_durably
from samara.registry.home import Home
from samara.registry.store import clone, link_into, link_view

CHANGES = ("fsync", "replace", "rename", "link", "unlink", "rmdir", "open")


def main() -> None:
    json.dump([_killed(case) for case in json.load(sys.stdin)], sys.stdout)


def _killed(case: dict[str, Any]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            die_at_step(case["step"], CHANGES)
            _act(Home(Path(case["home"])), case["act"], case["argument"])
        except BaseException as error:
            sys.stderr.write(f"{case}: {error!r}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"the child failed by itself: {status}"
    return killed


def _act(home: Home, act: str, argument: str) -> None:
    if act == "rm":
        remove(home, [argument])
    elif act == "prune":
        prune(home, Rules(older_than=0), now=time.time() + 2 * DAY, dry_run=False)
    elif act == "view":  # of another blob, over one that is there
        link_view(home, home.blob(argument), Path("acme/tiny/a/one.bin"))
    elif act == "inline":
        write_durably(home.blob(argument), b"small")
    elif act == "end":
        Partial(home, argument).remove()
    elif act == "to":
        link_into(home.blob(argument), home.root.parent / "to" / "file", replace=False)
    else:
        clone(home.blob(argument), Partial(home, argument).data)


if __name__ == "__main__":
    main()
