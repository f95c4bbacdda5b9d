"""Repairs, and dies by SIGKILL before or after the n-th durable or visible step. Run by test_repair.

    python repair_kill_driver.py HOME TARGET HOST PORT STEP

STEP 0 never dies. A step is before or after an fsync, a rename or a link.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

from support.kills import die_at_step

from samara.fetcher.options import PullOptions
from samara.fetcher.repair import repair
from samara.registry.home import Home
from samara.seeder.swarm_options import SwarmOptions


def main(home: str, target: str, host: str, port: str, step: str) -> None:
    if int(step):
        die_at_step(int(step), ("fsync", "fdatasync", "replace", "rename", "link", "chmod"))
    how = PullOptions(
        swarm=SwarmOptions(listen=("127.0.0.1:0",)).without_discovery(), peers=((host, int(port)),), give_up_after=20.0
    )
    repair(Home(Path(home)), target, how)


if __name__ == "__main__":
    main(*sys.argv[1:])
