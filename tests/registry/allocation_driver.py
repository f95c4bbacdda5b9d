"""Files that reserve their room, on disks of several kinds. Run by test_allocation, in a mount namespace of its own.

    python allocation_driver.py KIND PLACE CASE

Prints a JSON object of what happened; test_allocation judges it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from support.mounts import fill, image_disk, mount_image, small_disk, unmount
from support.world import MIB, random_file
from trust_kit import torrent_of

from samara.fetcher.partial import Partial, recover
from samara.registry.allocation import allocated, filesystem_of, keeps_holes, reserve
from samara.registry.home import Home
from samara.registry.positioned import extents, write_at
from samara.schemas.bittorrent import TorrentHashes, parse_blob_torrent
from samara.schemas.errors import DiskFullError

SIZE = 12 * MIB
BLOCK = 16 << 10  # what libtorrent writes at once
HAD = ((1 * MIB, 2 * MIB), (3 * MIB, 4 * MIB))  # what an earlier run left: (start, end)


class World:
    """A disk with the half of a transfer on it."""

    def __init__(self, kind: str, place: Path) -> None:
        self.kind, self.place = kind, place
        if kind == "tmpfs":
            small_disk(place, 64)
        elif kind == "overlay":
            small_disk(place.with_name("upper"), 64)
            _overlay(place)
        else:
            image_disk(place, kind)
        self.data = random_file(place.with_name("source"), SIZE, seed=5).read_bytes()
        self.hashes: TorrentHashes = parse_blob_torrent(torrent_of(self.data, gguf=False)).hashes
        (place / "home" / "partial" / ("ab" * 32)).mkdir(parents=True)
        self.partial = Partial(Home(place / "home"), "ab" * 32)
        self.fd = self.partial.open_data()
        for start, end in HAD:
            write_at(self.fd, self.data[start:end], start)
        os.fsync(self.fd)

    def reserve(self, size: int = SIZE) -> dict[str, Any]:
        try:
            done = reserve(self.fd, self.partial.data, size)
        except DiskFullError as error:
            return {"error": str(error)}
        return {"how": done.how, "bytes": done.bytes}

    def look(self) -> dict[str, Any]:
        """What others can see of the file, and how much room is left."""
        stretches = list(extents(self.fd))  # before anything is read: see below
        found = recover(self.partial, self.hashes, blocks=1)
        content = hashlib.sha256(self.partial.data.read_bytes()).hexdigest()
        stat = os.statvfs(self.place)
        told = {
            "size": os.fstat(self.fd).st_size,
            "allocated": allocated(self.fd),
            "partial_allocated": self.partial.allocated(),
            "content": content,
            "extents": stretches,
            "pieces_when_read": list(recover(self.partial, self.hashes, blocks=1).pieces),
            "pieces": list(found.pieces),
            "checked": found.checked,
            "free": stat.f_bavail * stat.f_frsize,
        }
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)  # as if nobody had looked
        return told

    def close(self) -> None:
        os.close(self.fd)
        unmount(self.place)

    def again(self) -> None:
        """Taken away and mounted anew, as after a reboot."""
        self.close()
        mount_image(self.place, self.kind)
        self.fd = self.partial.open_data()

    def write_all(self) -> str | None:
        """All that is missing, in the order in which peers give it; the error that ended it."""
        offsets = [at for at in range(0, SIZE, BLOCK) if not any(start <= at < end for start, end in HAD)]
        random.Random(1).shuffle(offsets)
        try:
            for at in offsets:
                write_at(self.fd, self.data[at : at + BLOCK], at)
            os.fsync(self.fd)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return None


def as_it_is(world: World) -> dict[str, Any]:
    before = world.look()
    first = world.reserve()
    after = world.look()
    second = world.reserve()
    return {
        "filesystem": filesystem_of(world.fd).name,
        "keeps_holes": keeps_holes(world.place),
        "before": before,
        "first": first,
        "after": after,
        "second": second,
        "names": sorted(path.name for path in world.partial.folder.iterdir()),
    }


def remounted(world: World) -> dict[str, Any]:
    world.reserve()
    before = world.look()
    world.again()
    return {"before": before, "after": world.look()}


def full(world: World) -> dict[str, Any]:
    """Somebody else takes all that is left."""
    done = world.reserve()
    fill(world.place)
    error = world.write_all()
    return {"done": done, "error": error, "same": world.partial.data.read_bytes() == world.data}


def too_large(world: World) -> dict[str, Any]:
    before = world.look()
    done = world.reserve(1 << 30)
    return {"before": before, "done": done, "after": world.look()}


def _overlay(place: Path) -> None:
    import subprocess

    upper = place.with_name("upper")
    for folder in (upper / "u", upper / "w", upper / "l", place):
        folder.mkdir(parents=True)
    options = f"lowerdir={upper / 'l'},upperdir={upper / 'u'},workdir={upper / 'w'}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", place], check=True, capture_output=True)


CASES = {"as-it-is": as_it_is, "remounted": remounted, "full": full, "too-large": too_large}


def main() -> None:
    kind, place, case = sys.argv[1:]
    world = World(kind, Path(place))
    try:
        told = CASES[case](world)
    finally:
        world.close()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
