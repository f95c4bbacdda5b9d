"""Disks of a test's own: small or read-only ones, in a mount namespace that ends with the process. Linux only."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

LIMIT = 120.0  # seconds for one script


@functools.cache
def unshared() -> tuple[str, ...]:
    """The command that starts another in a mount namespace where it may mount; empty where that isn't allowed."""
    if sys.platform != "linux" or shutil.which("unshare") is None or shutil.which("mount") is None:
        return ()
    prefix = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--map-root-user")
    tried = subprocess.run(
        [*prefix, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False, timeout=LIMIT
    )
    return prefix if tried.returncode == 0 else ()


def run_on_own_disks(script: Path, *arguments: object) -> dict[str, Any]:
    """Run a Python script where it may mount; the JSON object it prints."""
    done = subprocess.run(
        [*unshared(), sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=LIMIT, env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def small_disk(place: Path, mebibytes: int) -> None:
    """Mount an empty disk of that size. Only inside `run_on_own_disks`."""
    place.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "none", str(place))


def read_only(place: Path) -> None:
    """Make a mounted disk read-only."""
    _mount("-o", "remount,bind,ro", str(place))  # "bind": the mount, not the filesystem, which a user may not change


def fill(place: Path) -> Path:
    """Use up every free byte of a disk; the file that does it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for chunk in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(chunk))
            except OSError:
                continue
    return filler


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=LIMIT)
