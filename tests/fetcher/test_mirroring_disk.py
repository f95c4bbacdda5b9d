"""A disk that others have filled to its last byte: what the registry keeps for itself can still be let go of."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mounts import run_on_own_disks, unshared

pytestmark = pytest.mark.skipif(not unshared(), reason="can't mount disks of its own here (needs Linux and unshare)")


def test_what_is_kept_makes_room_where_not_even_the_index_can_be_written(tmp_path: Path) -> None:
    told = run_on_own_disks(Path(__file__).with_name("mirror_disk_driver.py"), tmp_path)
    assert told["told"] == "it came"
    assert told["old"] == [False, False]
    assert told["new"] == [True, True]
    assert (told["claimed"], told["evicted"]) == (False, 1)
