"""SIGKILL at every step of what writes keys and pins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if sys.platform != "win32":  # it has no fork; the renames tested here are the same code

    def test_a_kill_at_any_step_leaves_all_or_nothing(tmp_path: Path) -> None:
        driver = Path(__file__).with_name("trust_kill_driver.py")
        done = subprocess.run(
            [sys.executable, driver, tmp_path], capture_output=True, text=True, check=False, timeout=120
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        steps = {action: int(count) for action, count in (line.split() for line in done.stdout.splitlines())}
        assert steps["init"] >= 30
        assert steps["pin"] >= 10
        assert steps["remove"] >= 2
