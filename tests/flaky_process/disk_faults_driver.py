"""Pulls onto disks that fail in the middle. Run by test_disk_faults, in a mount namespace of its own.

    python disk_faults_driver.py CASE PLACE RELEASE IDENTITY HOST:PORT SEED

Prints a JSON object of what happened; test_disk_faults judges it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.mounts import fill, small_disk
from support.processes import Line, Outcome, pulling, samara
from support.world import NOW, leftovers

from samara.registry.home import Home
from samara.registry.positioned import extents
from samara.registry.trust.pins import TrustFolder

LIMIT = 60.0  # seconds for one program
MIB = 1 << 20


def main() -> None:
    case, place, release, identity, peer, seed = sys.argv[1:]
    json.dump(CASES[case](Path(place), release, identity, peer, random.Random(int(seed))), sys.stdout)


def full(place: Path, release: str, identity: str, peer: str, dice: random.Random) -> dict[str, Any]:
    """Somebody else fills the disk to its last byte, three times, each at a random moment; and makes room again."""
    small_disk(place, 110)
    home = _home(place, identity)
    tries = []
    for _ in range(3):
        with pulling(home, release, "--peer", peer) as pull:
            begun = pull.expect("pull_progress", lambda line: line["peers"] > 0)
            more = begun["done"] + dice.randrange((begun["total"] - begun["done"]) // 3)
            had = pull.expect("pull_progress", _has_done(more))["done"]
            filler = fill(place)
            tries.append({"had": had, **_told(pull.end())})
        filler.unlink()
    return {"tries": tries, **_at_the_end(home, release, peer)}


def breaks(place: Path, release: str, identity: str, peer: str, dice: random.Random) -> dict[str, Any]:
    """The disk takes every write, and fails when it is to keep them: a device that has no more room than it says.

    Then it is as it should be; but memory shows bytes now that it hasn't. At the end they are forgotten as by a reboot.
    """
    backing, healthy = place / "backing", place / "healthy"
    small_disk(backing, 140)
    small_disk(healthy, 40)
    with _loop_disk(backing / "disk.img", place / "disk", 200) as device:
        home = _home(place / "disk", identity)
        home.index.symlink_to(healthy / home.index.name)  # a database that loses bytes is another story
        with pulling(home, release, "--peer", peer) as pull:
            had = pull.expect("pull_progress", lambda line: line["done"] > 0)["done"]
            os.sync()  # what the filesystem says of itself is there; only bytes of files are lost from here on
            filler = fill(backing)
            broken = pull.end()
        filler.unlink()
        told = {"had": had, "broken": _told(broken), **_on_disk(home)}
        with pulling(home, release, "--peer", peer) as pull:
            told["warned"] = _told(pull.end())  # Linux tells the next who syncs the file of what it lost before
        return {**told, **_at_the_end(home, release, peer, settle=device.again)}


def no_hard_links(place: Path, release: str, identity: str, peer: str, _dice: random.Random) -> dict[str, Any]:
    """Folders that other programs read lie on a mount of their own: a link can't lead there."""
    small_disk(place, 110)
    home = _home(place, identity)
    home.models.mkdir(parents=True)
    subprocess.run(["mount", "--bind", home.models, home.models], check=True, timeout=LIMIT)
    return _at_the_end(home, release, peer)


def _on_disk(home: Home) -> dict[str, Any]:
    """What the transfer's record claims, and which stretches of its data the filesystem has."""
    (folder,) = home.partials.iterdir()
    record = folder / "record"
    with (folder / "data").open("rb") as data:
        has = list(extents(data.fileno()))
    return {"claims": json.loads(record.read_bytes())["pieces"] if record.exists() else "", "extents": has}


class _Disk:
    """A mounted image."""

    def __init__(self, image: Path, place: Path) -> None:
        self._image = image
        self._place = place

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self._place], check=True, timeout=LIMIT)

    def again(self) -> None:
        """Unmount and mount: nothing of it is in memory any more."""
        subprocess.run(["umount", self._place], check=True, timeout=LIMIT)
        self.mount()


@contextmanager
def _loop_disk(image: Path, place: Path, mebibytes: int) -> Iterator[_Disk]:
    """A disk in a file that takes room only as it is written to."""
    with image.open("wb") as file:
        file.truncate(mebibytes * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True, timeout=LIMIT)
    place.mkdir()
    disk = _Disk(image, place)
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", place], check=True, timeout=LIMIT)


def _has_done(size: int) -> Callable[[Line], bool]:
    return lambda line: bool(line["done"] >= size)


CASES = {"full": full, "breaks": breaks, "no-hard-links": no_hard_links}


def _home(place: Path, identity: str) -> Home:
    home = Home(place / "home")
    TrustFolder(home.trust).add("acme", identity, now=NOW)
    return home


def _at_the_end(home: Home, release: str, peer: str, settle: Any = lambda: None) -> dict[str, Any]:
    """One more pull; then, as another process sees it after `settle`, the bytes and what is left over."""
    with pulling(home, release, "--peer", peer) as pull:
        done = pull.end()
    told: dict[str, Any] = {"done": _told(done)}
    if done.status == 0:
        settle()
        told["bytes"] = Path(home.root, done.result["files"][0]["location"]).read_bytes().hex()
        told["verify"] = _told(samara(home, "verify", done.result["reference"], "--json"))
    return {**told, "leftovers": leftovers(home)}


def _told(outcome: Outcome) -> dict[str, Any]:
    return {"status": outcome.status, "result": outcome.result, "stderr": outcome.stderr}


if __name__ == "__main__":
    main()
