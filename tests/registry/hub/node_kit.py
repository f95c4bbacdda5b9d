"""The Hub's JavaScript clients under node: what node/package-lock.json names, installed once into a cache, and the
scripts that call them. npm takes them from wherever its user's configuration says. No test in here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub_kit import Client

if os.name != "nt":
    import fcntl

SCRIPTS = Path(__file__).with_name("node")
INSTALL_LIMIT = 540.0  # seconds
NEEDED = ("node", "npm")


def packages() -> Path:
    """A folder `node_modules` with exactly what the lock names; installed if it isn't there yet."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    assert not missing, f"these tests need {', '.join(missing)} (Debian: nodejs, npm)"
    lock = SCRIPTS / "package-lock.json"
    kept = _cache() / f"hub-clients-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    with _alone(kept.with_suffix(".lock")):
        if not kept.exists():
            _install(kept)
    return kept / "node_modules"


def run(client: Client, script: str, *arguments: str) -> Any:
    """What a script of `node/` prints, as JSON; it reaches nothing but loopback."""
    client.folder.mkdir(parents=True, exist_ok=True)
    for source in SCRIPTS.glob("*.mjs"):
        shutil.copy(source, client.folder)
    modules = client.folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(packages())
    ended = client.run("node", "--import", "./only_loopback.mjs", script, *arguments)
    assert ended.status == 0, ended.stderr[-3000:]
    assert "OUTSIDE" not in ended.stderr, ended.stderr[-3000:]
    return ended.json


def call(client: Client, function: str, **params: Any) -> Any:
    """A function of @huggingface/hub."""
    return run(client, "hub.mjs", json.dumps({"call": function, **params}))


def _install(target: Path) -> None:
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SCRIPTS / name, aside)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            command, cwd=aside, capture_output=True, text=True, timeout=INSTALL_LIMIT, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"npm can't install the clients: {done.stderr[-3000:]}"
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "samara-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Tests run in several processes: one installs, the others wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
