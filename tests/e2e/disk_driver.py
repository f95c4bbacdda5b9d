"""Pulls onto disks that are small, fill up or can't be written. Run by test_disk, in a mount namespace of its own.

    python disk_driver.py CASE PLACE RELEASE IDENTITY HOST:PORT

Prints a JSON object of what happened; test_disk judges it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from support.mounts import fill, read_only, small_disk
from support.processes import Outcome, pulling, samara
from support.world import NOW, leftovers

from samara.registry.home import Home
from samara.registry.trust.pins import TrustFolder


def main() -> None:
    case, place, release, identity, peer = sys.argv[1:]
    json.dump(CASES[case](Path(place), release, identity, peer), sys.stdout)


def fills_up(place: Path, release: str, identity: str, peer: str) -> dict[str, Any]:
    """Somebody else uses up the disk in the middle of a pull."""
    small_disk(place, 110)
    home = _home(place, identity)
    with pulling(home, release, "--peer", peer) as pull:
        had = pull.expect("pull_progress", lambda line: line["done"] > 0)["done"]
        filler = fill(place)
        full = pull.end()
    while_full = _pull(home, release, peer)
    filler.unlink()
    done = _pull(home, release, peer)
    return {
        "had": had,
        "full": _told(full),
        "while_full": _told(while_full),
        "done": _told(done),
        "leftovers": leftovers(home),
        "location": done.result["files"][0]["location"] if done.status == 0 else None,
        "bytes": Path(done.result["files"][0]["location"]).read_bytes().hex() if done.status == 0 else None,
    }


def no_room(place: Path, release: str, identity: str, peer: str) -> dict[str, Any]:
    """There is too little room from the start."""
    small_disk(place, 40)
    home = _home(place, identity)
    done = _pull(home, release, peer)
    return {"done": _told(done), "partials": home.partials.exists(), "blobs": home.blobs.exists()}


def not_writable(place: Path, release: str, identity: str, peer: str) -> dict[str, Any]:
    """The whole store is on a read-only disk."""
    small_disk(place, 110)
    home = _home(place, identity)
    first = _pull(home, release, peer)
    read_only(place)
    return {
        "first": _told(first),
        "pull": _told(_pull(home, release, peer)),
        "seed": _told(samara(home, "seed", "--listen", "127.0.0.1:0", "--no-discovery")),
        "new": _told(_pull(Home(place / "new"), release, peer)),
        "reads": [_told(samara(home, *arguments)) for arguments in _reads(first.result["reference"])],
    }


def _reads(reference: str) -> list[tuple[str, ...]]:
    return [("audit",), ("path", reference), ("show", reference), ("verify", reference), ("run", reference, "Hi")]


CASES = {"fills-up": fills_up, "no-room": no_room, "not-writable": not_writable}


def _home(place: Path, identity: str) -> Home:
    home = Home(place / "home")
    TrustFolder(home.trust).add("acme", identity, now=NOW)
    return home


def _pull(home: Home, release: str, peer: str) -> Outcome:
    with pulling(home, release, "--peer", peer) as pull:
        return pull.end()


def _told(outcome: Outcome) -> dict[str, Any]:
    return {"status": outcome.status, "result": outcome.result, "stderr": outcome.stderr}


if __name__ == "__main__":
    main()
