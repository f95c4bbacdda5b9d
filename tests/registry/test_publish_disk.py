"""Full and broken disks under a registry that is published at: one clear answer, readers go on, and with room again all
is as it should be. Real disks, small ones, in a mount namespace.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.mounts import can_mount, run_on_own_disks, unshared

pytestmark = pytest.mark.skipif(not unshared(), reason="can't mount disks of its own here (needs Linux and unshare)")
LONG = pytest.mark.long
DRIVER = Path(__file__).with_name("full_disk_driver.py")


def attacked(case: str, folder: Path) -> dict[str, Any]:
    """What happened; what holds in every case is judged here."""
    told = run_on_own_disks(DRIVER, case, folder)
    assert told["refused"], "there was room for everything: nothing was tried"
    for answer in told["refused"]:
        said = str(answer["body"])
        assert "reason" not in answer["body"], "the publisher is blamed for the registry's disk"
        assert "/" not in answer["body"]["detail"], f"strangers hear of the operator's paths: {said}"
        assert "127.0.0.1" not in said
        assert "later" in answer["body"]["next_step"]
    assert (told["again"], told["found"], told["damage"]) == (told["published"], told["published"], [])
    return told


@pytest.mark.parametrize(
    "case", ["home", pytest.param("temporary", marks=LONG), pytest.param("database", marks=LONG)]
)  # fmt: skip
def test_a_full_disk_is_said_as_that_and_costs_nothing_but_time(tmp_path: Path, case: str) -> None:
    told = attacked(case, tmp_path)
    # a PostgreSQL that can't extend its log stops, and starts again
    assert {answer["status"] for answer in told["refused"]} <= ({507, 503} if case == "database" else {507})
    assert told["at_once"] == told["published"]  # by the same process, as soon as there was room
    if case != "database":
        assert told["readers"] == [200]
        assert told["slowest"] < 10


@pytest.mark.long
def test_a_disk_that_broke_is_read_on_and_mended_by_mounting_it_again(tmp_path: Path) -> None:
    if not can_mount("ext4"):
        pytest.skip("this system can't mount ext4 from a file")
    told = attacked("broken", tmp_path)
    assert {answer["status"] for answer in told["refused"]} == {503}
    assert told["readers"] == [200]
