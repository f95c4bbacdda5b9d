"""Disks that are too small, fill up or can't be written: said so, nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.mounts import run_on_own_disks, unshared
from support.swarms import seeding
from support.world import MIB, PIECE, Shelf, one_blob

SIZE = 16 * MIB
LINK = 8_000_000  # bytes per second
DRIVER = Path(__file__).with_name("disk_driver.py")

pytestmark = pytest.mark.skipif(not unshared(), reason="can't mount disks of its own here (needs Linux and unshare)")


def drive(case: str, tmp_path: Path, published: Shelf, *, up: int = 0) -> dict[str, Any]:
    with seeding(published, up=up) as peer:
        return run_on_own_disks(
            DRIVER, case, tmp_path / "disk", published.file, published.publisher.identity, peer.text
        )  # fmt: skip


def message(told: dict[str, Any]) -> str:
    lines = [line for line in told["stderr"].splitlines() if line.startswith("samara:")]
    assert len(lines) == 1, told["stderr"]
    return str(lines[0])


def test_a_disk_that_fills_up_keeps_what_was_fetched(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    told = drive("fills-up", tmp_path, shelved, up=LINK)
    assert told["full"]["status"] == 7, told["full"]["stderr"]
    assert "no room left" in message(told["full"])
    assert "run the same command again" in message(told["full"])
    assert told["while_full"]["status"] == 7, told["while_full"]["stderr"]
    assert told["done"]["status"] == 0, told["done"]["stderr"]
    assert told["done"]["result"]["bytes_reused"] >= told["had"] - 3 * PIECE
    assert bytes.fromhex(told["bytes"]) == shelved.source.read_bytes()
    assert told["leftovers"] == []


def test_too_little_room_is_found_before_anything_is_written(tmp_path: Path) -> None:
    told = drive("no-room", tmp_path, one_blob(tmp_path / "shelf", SIZE))
    assert told["done"]["status"] == 7, told["done"]["stderr"]
    assert "not enough room" in message(told["done"])
    assert told["done"]["result"]["expected"].endswith("bytes free")
    assert (told["partials"], told["blobs"]) == (False, False)


@pytest.mark.long
def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    told = drive("not-writable", tmp_path, one_blob(tmp_path / "shelf", MIB))
    assert told["first"]["status"] == 0, told["first"]["stderr"]
    for name in ("pull", "seed", "new"):
        assert told[name]["status"] == 9, told[name]["stderr"]
        assert "can't" in message(told[name])
    audit, path, show, verify, run = told["reads"]
    for read in (audit, path, show, verify):
        assert read["status"] == 0, read["stderr"]
    assert "not recorded" in verify["stderr"]
    assert run["status"] == 2  # it is here, and no GGUF
    assert "no GGUF model" in message(run)
