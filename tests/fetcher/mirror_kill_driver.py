"""Mirrors, dies by SIGKILL where it was told to, and tells what lay there then. Run by test_mirroring_kills.

    python mirror_kill_driver.py < CASES

CASES is a JSON list of {home, peers, quota, here, moments}. For each moment (as in pull_kill_driver: `point:n`,
`event:n` or `step:n`) a forked child mirrors into the home until `here` of the listed blobs are, or it dies. Then one
more mirrors until it is so. Prints one object for each case: whether each moment was reached; for each, what lay in the
store then and whether `kept.json` answers for it; and what the last one told.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

from support.kills import die_at_step, dying_at, forked
from support.registries import asking, mirroring, provided

from samara.fetcher.kept import NAME
from samara.registry.home import Home
from samara.registry.index import Index

STEPS = ("fsync", "fdatasync", "replace", "rename", "link", "unlink", "rmdir")
ENOUGH = 60.0  # seconds


def main() -> None:
    json.dump([_case(case) for case in json.load(sys.stdin)], sys.stdout)


def _case(case: dict[str, Any]) -> dict[str, object]:
    home = Home(Path(case["home"]))
    killed, lay = [], []
    for moment in case["moments"]:
        killed.append(forked(partial(_mirror, case, moment)))
        lay.append(_what_lies_there(home))
    told, tell = os.pipe()
    assert not forked(partial(_mirror, case, None, tell))
    os.close(tell)
    with os.fdopen(told) as pipe:
        return {"killed": killed, "lay": lay, **json.load(pipe)}


def _what_lies_there(home: Home) -> list[list[object]]:
    """[b3 hex, whether somebody answers for it] of every blob and partial."""
    path = home.root / NAME
    kept = json.loads(path.read_bytes())["blobs"] if path.exists() else {}
    names = [found.name for room in (home.partials.glob("*"), home.blobs.glob("??/*")) for found in room]
    return [[name, name in kept] for name in names if not name.startswith(".")]


def _mirror(case: dict[str, Any], moment: str | None, tell: int | None = None) -> None:
    home = Home(Path(case["home"]))
    pull = asking(*map(tuple, case["peers"]), give_up_after=ENOUGH, checkpoint_seconds=0.05)
    if moment is not None and moment.startswith("step:"):
        die_at_step(int(moment.partition(":")[2]), STEPS)
    watch = dying_at(moment) if moment is not None else None
    with Index.open(home) as index, provided(home, index, mirroring(pull, quota=case["quota"]), also=watch) as registry:
        registry.until(
            lambda status: status.here == case["here"] and not status.pending and not status.coming, limit=ENOUGH
        )
        status = registry.status()
    if tell is not None:
        told = {"from_peers": status.from_peers, "evicted": status.evicted, "held": status.held}
        os.write(tell, json.dumps(told).encode())


if __name__ == "__main__":
    main()
