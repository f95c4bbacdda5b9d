"""SIGKILL at every step of what checks, keeps, publishes and takes over catalogs, and of what changes keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "win32":  # it has no fork; the renames tested here are the same code

    @pytest.mark.long
    def test_a_kill_at_any_step_is_repaired_by_a_rerun_and_takes_nothing_back(tmp_path: Path) -> None:
        driver = Path(__file__).with_name("catalog_kill_driver.py")
        done = subprocess.run(
            [sys.executable, driver, tmp_path], capture_output=True, text=True, check=False, timeout=300
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        steps = {action: int(count) for action, count in (line.split() for line in done.stdout.splitlines())}
        at_least = {
            "first": 12, "next": 12, "stale": 6, "equivocation": 6, "list": 3, "retract": 3, "rotate-online": 12,
            "rotate-root": 12, "sync": 6,
        }  # fmt: skip
        assert {action: steps[action] >= count for action, count in at_least.items()} == dict.fromkeys(at_least, True)
