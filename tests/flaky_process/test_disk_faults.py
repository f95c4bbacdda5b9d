"""Disks that fill up at a random byte, that lose what they took, that know no links, that let no file grow."""

from __future__ import annotations

import base64
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from process_kit import IN_FLIGHT, LINK, assert_claims_are_true, finish
from support.mounts import run_on_own_disks, unshared
from support.processes import started
from support.swarms import seeding
from support.world import MIB, PIECE, Shelf, one_blob, trusting_home

from samara.schemas.ranges import Bitmap

SIZE = 16 * MIB
DRIVER = Path(__file__).with_name("disk_faults_driver.py")
NO_MOUNTS = "can't mount disks of its own here (needs Linux and unshare)"

mounts = pytest.mark.skipif(not unshared(), reason=NO_MOUNTS)


def drive(case: str, tmp_path: Path, published: Shelf, seed: int, *, up: int = LINK) -> dict[str, Any]:
    """Run the driver's case; with how many bytes the only peer gave."""
    with seeding(published, up=up) as peer:
        who = (published.file, published.publisher.identity, peer.text)
        return {**run_on_own_disks(DRIVER, case, tmp_path / "disk", *who, seed), "given": peer.uploaded}


def message(told: dict[str, Any]) -> str:
    lines = [line for line in told["stderr"].splitlines() if line.startswith("samara:")]
    assert len(lines) == 1, told["stderr"]
    return str(lines[0])


def assert_done(told: dict[str, Any], published: Shelf) -> None:
    assert told["done"]["status"] == 0, told["done"]["stderr"]
    assert bytes.fromhex(told["bytes"]) == published.source.read_bytes()
    assert told["verify"]["status"] == 0, told["verify"]["stderr"]
    assert told["leftovers"] == []


@mounts
@pytest.mark.long
def test_full_at_a_random_byte(tmp_path: Path, seed: int) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    told = drive("full", tmp_path, shelved, seed)
    for tried in told["tries"]:
        assert tried["status"] == 7, tried["stderr"]
        assert "no room left" in message(tried)
        assert "run the same command again" in message(tried)
    assert_done(told, shelved)
    assert told["done"]["result"]["bytes_reused"] >= told["tries"][-1]["had"] - 3 * PIECE
    assert told["given"] - SIZE <= len(told["tries"]) * (IN_FLIGHT + 2 * PIECE)


@mounts
def test_a_disk_that_loses_what_it_took(tmp_path: Path, seed: int) -> None:
    """Writes succeed, syncing fails: from then on memory shows bytes that the disk has never had. None is believed."""
    shelved = one_blob(tmp_path / "shelf", SIZE)
    told = drive("breaks", tmp_path, shelved, seed)
    assert told["broken"]["status"] in {7, 9}, told["broken"]["stderr"]
    assert "disk" in message(told["broken"])
    assert told["warned"]["status"] in {0, 7, 9}
    assert_done(told, shelved)
    claims = Bitmap.from_bytes(base64.b64decode(told["claims"]), shelved.only.piece_count) if told["claims"] else ()
    for piece in claims:
        there = any(start <= piece * PIECE and (piece + 1) * PIECE <= end for start, end in told["extents"])
        assert there, f"piece {piece} was claimed when the disk had lost it"


@mounts
def test_folders_to_which_no_hard_link_leads(tmp_path: Path, seed: int) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    assert_done(drive("no-hard-links", tmp_path, shelved, seed, up=0), shelved)


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("prlimit") is None, reason="needs Linux's prlimit")
def test_no_file_may_grow_beyond_a_limit(tmp_path: Path) -> None:
    """As on a disk that knows no files so large, or under a quota of the shell's: EFBIG at some byte."""
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    limit = ("prlimit", f"--fsize={SIZE * 3 // 5 + 12345}")
    how = ("--listen", "127.0.0.1:0", "--no-discovery", "--give-up-after", "30", "--json")
    with seeding(shelved, up=LINK) as peer:
        with started(home, "pull", shelved.file, "--peer", peer.text, *how, wrap=limit) as pull:
            refused = pull.end()
        assert refused.status == 9, refused.stderr[-4000:]
        assert "File too large" in refused.message
        assert_claims_are_true(home, shelved)
        had = max(line["done"] for line in refused.named("pull_progress"))
        done = finish(home, shelved, peer.text)
        given = peer.uploaded
    assert done.result["bytes_reused"] >= had - 3 * PIECE  # pieces come in no order
    assert given - SIZE <= IN_FLIGHT + 2 * PIECE
