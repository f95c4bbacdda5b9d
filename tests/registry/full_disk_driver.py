"""Publishes at a registry whose disk fills up, and gets room again. Run by test_publish_disk in a mount namespace.

    python full_disk_driver.py CASE FOLDER

CASE: `home` (the disk of SAMARA_HOME), `temporary` (that of TMPDIR), `database` (that of a PostgreSQL server), `broken`
(that of SAMARA_HOME, an ext4, has an error and can't be written until it is mounted again). Prints a JSON object of
what was answered.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

from attack_kit import Site, reading, site
from service_kit import author
from support.mounts import fill, image_disk, mount_image, small_disk, unmount
from support.postgres import Postgres
from support.world import random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.schemas.publication import pack_publication

DISK = Path("/mnt")  # nobody else sees what is mounted here; a socket's path must be short
ROOM = (0, 4, 40, 80, 120, 160, 200, 300)  # KiB that are left: too few for the log, its index, a few rows, for nothing


def main() -> None:
    case, folder = sys.argv[1], Path(sys.argv[2])
    identity, bodies = _publications(folder)
    disk = folder / "disk" if case == "broken" else DISK
    if case == "broken":
        image_disk(disk, "ext4")
    else:
        small_disk(disk, 160 if case == "database" else 12)
    with contextlib.ExitStack() as stack:
        stack.callback(unmount, disk)
        home = Home(disk / "home" if case in {"home", "broken"} else folder / "home")
        if case == "temporary":
            os.environ["TMPDIR"] = str(disk)
        server = None
        if case == "database":
            disk.chmod(0o755)
            (disk / "pg").mkdir()
            server = Postgres(disk / "pg")
            server.start()
            stack.callback(server.stop)
            home = Home(folder / "home", server.url("postgres"))
        place = site(home, "--behind", "127.0.0.1/32")
        with place.serving():
            told = _attack(place, identity, bodies[:-1], _broken(disk) if case == "broken" else _full(disk))
            if server is not None:
                server.revive()
            if case != "broken":
                told["at_once"] = place.publish(bodies[-1]).body.get("listed")
        if case == "broken":
            unmount(disk)
            mount_image(disk, "ext4")
        with place.serving():
            told["again"] = place.publish(bodies[-1]).body["listed"]
            told["found"] = place.ask("/v1/search").body["total"]
        with contextlib.closing(Index.open(home)) as index:
            told["damage"] = list(index.damage())
    told["published"] = len(bodies)
    json.dump(told, sys.stdout)


def _publications(folder: Path) -> tuple[str, list[bytes]]:
    """Who publishes; one publication after the other, each of all before and a model more."""
    acme = author(folder / "acme", "acme")
    bodies = []
    for number in range(len(ROOM) + 2):
        acme.publish(f"model-{number}:v1", [random_file(folder / f"{number}.bin", 50_000, seed=number)])
        bodies.append(pack_publication(acme.publication()))
    return acme.identity, bodies


def _attack(place: Site, identity: str, bodies: Sequence[bytes], troubles: Iterator[Any]) -> dict[str, Any]:
    """Publish the first as long as all is well, each other one under a trouble of its own."""
    taken = [place.publish(bodies[0]).body["timestamp_version"]]
    refused = []
    there = f"/v1/publishers/{identity}"
    with reading(place, f"/v1/models/{identity}/model-0") as reader:
        for number, (body, trouble) in enumerate(zip(bodies[1:], troubles, strict=False)):
            with trouble:
                answer = place.publish(body, address=f"192.0.2.{number}")
                told = place.ask(there)
            if answer.status == 201:
                taken.append(answer.body["timestamp_version"])
            else:
                refused.append({"status": answer.status, "body": answer.body})
            if told.status == 200:
                assert told.body["timestamp_version"] == taken[-1]
    return {"refused": refused, "taken": len(taken), "readers": sorted(reader.statuses), "slowest": reader.slowest}


def _full(disk: Path) -> Iterator[contextlib.AbstractContextManager[None]]:
    for room in ROOM:
        yield _less_room(disk, room)


@contextlib.contextmanager
def _less_room(disk: Path, room: int) -> Iterator[None]:
    """Only so many KiB are left while the block lasts."""
    filler = fill(disk)
    os.truncate(filler, max(0, filler.stat().st_size - (room << 10)))
    try:
        yield
    finally:
        filler.unlink()


def _broken(disk: Path) -> Iterator[contextlib.AbstractContextManager[None]]:
    """As the kernel leaves a filesystem in which it found an error: what is open stays so and can't be written."""
    subprocess.run(["mount", "-o", "remount,abort", disk], check=False, capture_output=True)
    yield contextlib.nullcontext()
    yield contextlib.nullcontext()


if __name__ == "__main__":
    main()
