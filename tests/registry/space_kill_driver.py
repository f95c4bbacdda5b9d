"""Removes, or makes things, and dies by SIGKILL before or after the n-th change to the disk. Run by test_space_kills.

    python space_kill_driver.py < CASES

CASES is a JSON list of {home, act, argument, step}. Prints for each whether it was killed.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

from support.kills import die_at_step, forked

from samara.fetcher.clean import prune, remove
from samara.fetcher.housekeeping import DAY, Rules
from samara.fetcher.partial import Partial
from samara.registry.durable import write_durably
from samara.registry.home import Home
from samara.registry.store import clone, link_into, link_view

CHANGES = ("fsync", "replace", "rename", "link", "unlink", "rmdir", "open")


def main() -> None:
    json.dump([forked(partial(_die, case)) for case in json.load(sys.stdin)], sys.stdout)


def _die(case: dict[str, Any]) -> None:
    die_at_step(case["step"], CHANGES)
    _act(Home(Path(case["home"])), case["act"], case["argument"])


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
