"""SIGKILL at every step of what writes keys and pins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "win32":  # it has no fork; the renames tested here are the same code

    @pytest.mark.parametrize(("action", "steps"), [("init", 20), ("pin", 10), ("remove", 2)])
    def test_a_kill_at_any_step_leaves_all_or_nothing(tmp_path: Path, action: str, steps: int) -> None:
        driver = Path(__file__).with_name("trust_kill_driver.py")
        done = subprocess.run(
            [sys.executable, driver, action, tmp_path], capture_output=True, text=True, check=False, timeout=120
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= steps
