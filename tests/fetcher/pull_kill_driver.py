"""Pulls, dies by SIGKILL where it was told to, then pulls again and tells what happened. Run by test_pull_kills.

    python pull_kill_driver.py < CASES

CASES is a JSON list of {home, release, host, port, checkpoint, moments}. A moment is `point:n`: the n-th time that a
pull reports Reached(point=…); `event:n`: the n-th of all of them; `step:n`: before and after each time that it makes
something durable or visible (an fsync, a rename, a link), the n-th of these. For each a forked child pulls into the
home and dies there. Then one more pulls to the end. Prints one object for each case: whether each moment was reached,
and what the last pull did.
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

from samara.fetcher.options import PullOptions
from samara.fetcher.pull import pull
from samara.registry.home import Home
from samara.seeder.swarm_options import SwarmOptions

STALL = 20.0  # seconds without a byte: then something is wrong, and the pull says so


def main() -> None:
    json.dump([_case(case) for case in json.load(sys.stdin)], sys.stdout)


def _case(case: dict[str, Any]) -> dict[str, object]:
    home = Home(Path(case["home"]))
    how = PullOptions(
        swarm=SwarmOptions(listen=("127.0.0.1:0",)).without_discovery(),
        peers=((case["host"], case["port"]),),
        give_up_after=STALL,
        checkpoint_seconds=case["checkpoint"],
    )
    killed = [forked(partial(_die, home, case["release"], how, moment)) for moment in case["moments"]]
    told, tell = os.pipe()
    assert not forked(partial(_finish, home, case["release"], how, tell))
    os.close(tell)
    with os.fdopen(told) as pipe:
        return {"killed": killed, **json.load(pipe)}


def _die(home: Home, release: str, how: PullOptions, moment: str) -> None:
    point, _, number = moment.partition(":")
    if point == "step":
        die_at_step(int(number), ("fsync", "fdatasync", "replace", "rename", "link"))
    pull(home, release, how, on_event=dying_at(moment))


def _finish(home: Home, release: str, how: PullOptions, tell: int) -> None:
    done = pull(home, release, how)
    os.write(tell, json.dumps({"from_peers": done.bytes_from_peers, "reused": done.bytes_reused}).encode())


if __name__ == "__main__":
    main()
