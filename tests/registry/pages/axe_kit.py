"""axe-core, which judges pages by the WCAG: exactly what node/package-lock.json names, installed once into a cache. npm
takes it from wherever its user's configuration says. No test in here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NODE = Path(__file__).with_name("node")
INSTALL_LIMIT = 300.0  # seconds


def axe_source() -> str:
    """The script that makes `axe` in a page."""
    assert shutil.which("npm") is not None, "this test needs npm (Debian: npm)"
    digest = hashlib.sha256((NODE / "package-lock.json").read_bytes()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samara-tests"
    root.mkdir(parents=True, exist_ok=True)
    kept = root / f"axe-{digest}"
    with (root / f"axe-{digest}.lock").open("w") as lock:  # tests run in several processes: one installs
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _install(kept)
    return (kept / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def _install(target: Path) -> None:
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE / name, aside)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=aside, capture_output=True, text=True,
            timeout=INSTALL_LIMIT, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"npm can't install axe-core: {done.stderr[-3000:]}"
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
