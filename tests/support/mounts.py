"""Disks of a test's own: small or read-only ones, in a mount namespace that ends with the process. Linux only."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIMIT = 120.0  # seconds for one script
SMALLEST = {"ext4": 64, "xfs": 300, "btrfs": 128, "vfat": 64, "exfat": 64}  # mebibytes that mkfs is content with
MAKERS = {  # program, arguments, Debian package
    "ext4": (("mkfs.ext4", "-q", "-F"), "e2fsprogs"),
    "xfs": (("mkfs.xfs", "-q", "-f"), "xfsprogs"),
    "btrfs": (("mkfs.btrfs", "-q", "-f"), "btrfs-progs"),
    "vfat": (("mkfs.vfat",), "dosfstools"),
    "exfat": (("mkfs.exfat",), "exfatprogs"),
}

_TRIAL = """
import sys
from pathlib import Path
from support.mounts import image_disk, unmount
place = Path(sys.argv[1])
image_disk(place, sys.argv[2])
unmount(place)
"""
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


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


@functools.cache
def can_mount(kind: str) -> bool:
    """Whether this system can mount an image with such a filesystem. Fails, naming the package, without its mkfs."""
    (program, *_), package = MAKERS[kind]
    if shutil.which(program, path=_PATH) is None:
        raise AssertionError(f"{program} is not installed; run: sudo apt-get install -y {package}")
    if not unshared():
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*unshared(), sys.executable, "-c", _TRIAL, str(Path(folder) / "disk"), kind], capture_output=True,
            check=False, timeout=LIMIT, env=_environment(),
        )  # fmt: skip
        return done.returncode == 0


def run_on_own_disks(script: Path, *arguments: object) -> dict[str, Any]:
    """Run a Python script where it may mount; the JSON object it prints."""
    done = subprocess.run(
        [*unshared(), sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=LIMIT, env=_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def small_disk(place: Path, mebibytes: int) -> None:
    """Mount an empty disk of that size. Only inside `run_on_own_disks`."""
    place.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "none", str(place))


def image_disk(place: Path, kind: str) -> None:
    """Mount a new, empty filesystem of that kind, in a file beside `place`. Only inside `run_on_own_disks`.

    To be unmounted: a program that stands behind it would outlive the namespace.
    """
    image = place.with_name(place.name + ".img")
    place.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(SMALLEST[kind] << 20)
    command, _package = MAKERS[kind]
    _run(*command, str(image))
    mount_image(place, kind)


def mount_image(place: Path, kind: str) -> None:
    """Mount what `image_disk` made, again. Without exFAT in the kernel by a program (Debian's exfat-fuse)."""
    image = place.with_name(place.name + ".img")
    try:
        _mount("-t", kind, "-o", "loop", str(image), str(place))
    except subprocess.CalledProcessError:
        if kind != "exfat":
            raise
        device = _run("losetup", "--find", "--show", str(image)).strip()
        try:
            _run("mount.exfat-fuse", device, str(place))
        finally:
            _run("losetup", "--detach", device)  # it goes when it isn't mounted any more


def unmount(place: Path) -> None:
    """Take a disk away."""
    _run("umount", str(place))


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
    _run("mount", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=LIMIT, env={**os.environ, "PATH": _PATH}
    )
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
