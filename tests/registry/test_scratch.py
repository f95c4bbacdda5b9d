"""Folders to work in: gone afterwards, removed for processes that were killed, never taken from one that works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.scratch import Scratch, is_held
from samara.registry.sweep import sweep
from samara.schemas.errors import StoreError

PREFIX = TEMPORARY_PREFIX
HOLDS_ONE = """
import sys
from pathlib import Path
from samara.registry.scratch import Scratch
mine = Scratch(Path(sys.argv[1]), sys.argv[2])
print(mine.path, flush=True)
sys.stdin.read()
"""
OLD = (1, 1)


def held_elsewhere(where: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process with a scratch folder, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_ONE, str(where), PREFIX],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_gone_afterwards(tmp_path: Path) -> None:
    with Scratch(tmp_path, PREFIX) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(b"x")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert is_held(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_what_a_killed_process_left_is_removed_and_what_one_works_in_is_not(tmp_path: Path) -> None:
    """Whatever the clock says: the folder of the one that works looks as old as the other."""
    dead, left = held_elsewhere(tmp_path)
    with dead:
        dead.send_signal(signal.SIGKILL)
    alive, used = held_elsewhere(tmp_path)
    young, other = tmp_path / f"{PREFIX}young", tmp_path / "other"
    for folder in (young, other):
        folder.mkdir()
    for folder in (left, used, other):
        os.utime(folder, OLD)
    with alive, Scratch(tmp_path, PREFIX) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([mine, used, young, other])
        assert alive.stdin is not None
        alive.stdin.close()
        alive.wait()


def test_the_sweep_of_a_store_leaves_what_is_held(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    far = 4e9
    with Scratch(tmp_path, PREFIX) as folder:
        assert sweep(home, now=far) == 0
        assert folder.exists()
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    assert sweep(home, now=far) == 1
    assert not left.exists()


def test_no_room_to_work_in_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        Scratch(tmp_path / "file", PREFIX)
