"""Room reserved on real disks of several kinds: it is there when the disk is full, and looks like a hole until then."""

from __future__ import annotations

import errno
import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from allocation_driver import HAD, SIZE
from support.mounts import MAKERS, can_mount, run_on_own_disks, unshared

from samara.registry import allocation
from samara.registry.allocation import Reserved, filesystem, filesystem_of, reserve
from samara.registry.durable import TEMPORARY_PREFIX
from samara.schemas.errors import DiskFullError

DRIVER = Path(__file__).with_name("allocation_driver.py")
HELD = sum(end - start for start, end in HAD)
LITTLE = 64 << 10  # what a filesystem needs to note where a file's blocks are
DATA = [list(stretch) for stretch in HAD]

needs_mounts = pytest.mark.skipif(not unshared(), reason="can't mount disks of its own here (needs Linux and unshare)")
each_that_reserves = pytest.mark.parametrize("kind", ["ext4", "xfs"])
each_that_stays_sparse = pytest.mark.parametrize("kind", ["btrfs", "tmpfs", "overlay"])
each_without_holes = pytest.mark.parametrize("kind", ["vfat", "exfat"])


@functools.cache
def drive(kind: str, case: str) -> dict[str, Any]:
    """What happened on such a disk; several tests look at one run."""
    if kind in MAKERS and not can_mount(kind):
        pytest.skip(f"this system can't mount {kind} from a file")
    with tempfile.TemporaryDirectory() as folder:
        return run_on_own_disks(DRIVER, kind, Path(folder) / "disk", case)


@needs_mounts
@each_that_reserves
class TestWhereRoomCanBeReserved:
    def test_all_that_is_missing_is_reserved_and_looks_like_a_hole(self, kind: str) -> None:
        told = drive(kind, "as-it-is")
        before, after = told["before"], told["after"]
        assert told["filesystem"] == kind
        assert told["first"]["how"] == "reserved"
        assert SIZE - HELD <= told["first"]["bytes"] <= SIZE - HELD + LITTLE
        assert after["extents"] == before["extents"] == DATA
        assert (after["size"], after["content"]) == (before["size"], before["content"])
        assert told["names"] == ["data"]

    def test_it_counts_as_room_that_is_taken(self, kind: str) -> None:
        told = drive(kind, "as-it-is")
        before, after = told["before"], told["after"]
        assert before["partial_allocated"] < HELD + LITTLE
        assert SIZE <= after["partial_allocated"] == after["allocated"] <= SIZE + LITTLE
        assert before["free"] - after["free"] == after["allocated"] - before["allocated"]

    def test_doing_it_again_takes_nothing_more(self, kind: str) -> None:
        assert drive(kind, "as-it-is")["second"] == {"how": "reserved", "bytes": 0}

    def test_a_resume_finds_what_is_there_and_hashes_no_more_than_that(self, kind: str) -> None:
        told = drive(kind, "as-it-is")
        assert len(told["after"]["pieces"]) == HELD // (SIZE // 48)
        assert told["after"]["pieces"] == told["before"]["pieces"]
        assert told["after"]["checked"] == HELD

    def test_what_somebody_read_of_it_is_checked_and_found_to_be_nothing(self, kind: str) -> None:
        after = drive(kind, "as-it-is")["after"]
        assert after["pieces_when_read"] == after["pieces"]

    @pytest.mark.long
    def test_it_outlives_a_restart_of_the_machine(self, kind: str) -> None:
        told = drive(kind, "remounted")
        assert told["after"] == told["before"]
        assert told["after"]["allocated"] >= SIZE

    def test_a_disk_that_fills_up_later_does_not_stop_who_reserved(self, kind: str) -> None:
        told = drive(kind, "full")
        assert told["done"]["how"] == "reserved"
        assert told["error"] is None
        assert told["same"]

    def test_what_there_is_no_room_for_is_refused_and_given_back(self, kind: str) -> None:
        told = drive(kind, "too-large")
        assert "not enough room" in told["done"]["error"]
        before, after = told["before"], told["after"]
        assert before["free"] - after["free"] <= LITTLE
        for fact in ("size", "content", "extents", "pieces"):
            assert after[fact] == before[fact]


@needs_mounts
@each_that_stays_sparse
class TestWhereFilesStaySparse:
    def test_nothing_changes(self, kind: str) -> None:
        told = drive(kind, "as-it-is")
        assert told["filesystem"] == kind
        assert told["first"] == told["second"] == {"how": "sparse", "bytes": 0}
        assert told["after"] == told["before"]
        assert told["before"]["extents"] == DATA
        assert told["keeps_holes"]

    def test_a_disk_that_fills_up_later_stops_it(self, kind: str) -> None:
        assert drive(kind, "full")["error"] == "ENOSPC"


@needs_mounts
@each_without_holes
class TestWhereThereAreNoHoles:
    def test_it_says_that_files_should_be_written_in_order(self, kind: str) -> None:
        told = drive(kind, "as-it-is")
        assert told["filesystem"] in {kind, "fuse"}
        assert told["first"] == {"how": "in order", "bytes": 0}
        assert not told["keeps_holes"]
        assert told["names"] == ["data"], "looking leaves nothing behind"

    def test_a_resume_finds_what_is_there(self, kind: str) -> None:
        before = drive(kind, "as-it-is")["before"]
        assert before["extents"] == [[0, HAD[-1][1]]]
        assert len(before["pieces"]) == HELD // (SIZE // 48)


class TestByMagic:
    @pytest.mark.parametrize(
        ("magic", "name", "reserves", "holes"),
        [
            (0xEF53, "ext4", True, True),
            (0x58465342, "xfs", True, True),
            (0x9123683E, "btrfs", False, True),
            (0x2FC12FC1, "zfs", False, True),
            (0x794C7630, "overlay", False, True),
            (0x6969, "nfs", False, True),
            (0x4D44, "vfat", False, False),
            (0x2011BAB0, "exfat", False, False),
            (0x65735546, "fuse", False, None),
            (0xFE534D42, "smb", False, None),
            (0x12345678, "unknown", False, None),
        ],
    )
    def test_each_kind_has_its_way(self, magic: int, name: str, reserves: bool, holes: bool | None) -> None:
        found = filesystem(magic)
        assert (found.name, found.reserves, found.holes) == (name, reserves, holes)


class TestWhatTheSystemSays:
    """Errors that no disk at hand gives: the decision, on a real file."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "data"
        path.write_bytes(b"x" * 5000)
        return path

    def reserve(self, file: Path, monkeypatch: pytest.MonkeyPatch, magic: int, *failures: int) -> Reserved:
        given = iter(failures)
        monkeypatch.setattr(allocation, "filesystem_of", lambda _fd: filesystem(magic))
        monkeypatch.setattr(allocation, "_fallocate", lambda *_arguments: next(given, 0))
        fd = os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            return reserve(fd, file, 10_000)
        finally:
            os.close(fd)
            assert file.read_bytes() == b"x" * 5000

    @pytest.mark.parametrize("failure", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO, errno.EFBIG, errno.EPERM])
    def test_what_cannot_be_reserved_stays_sparse(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, failure: int
    ) -> None:
        assert self.reserve(file, monkeypatch, 0xEF53, failure) == Reserved(bytes=0, how="sparse")

    @pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EDQUOT])
    def test_no_room_is_an_error(self, file: Path, monkeypatch: pytest.MonkeyPatch, failure: int) -> None:
        with pytest.raises(DiskFullError, match="not enough room") as caught:
            self.reserve(file, monkeypatch, 0xEF53, failure)
        assert caught.value.next_step

    def test_of_an_unknown_kind_one_looks(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Path] = []

        def look(folder: Path) -> bool:
            seen.append(folder)
            return not seen[1:]

        monkeypatch.setattr(allocation, "keeps_holes", look)
        assert self.reserve(file, monkeypatch, 0x65735546).how == "sparse"
        assert self.reserve(file, monkeypatch, 0x65735546).how == "in order"
        assert seen == [file.parent] * 2

    def test_an_empty_range_is_no_error(self, file: Path) -> None:
        with file.open("r+b") as opened:
            assert reserve(opened.fileno(), file, 0).bytes == 0
            assert filesystem_of(opened.fileno()).name

    def test_looking_leaves_nothing(self, tmp_path: Path) -> None:
        allocation.keeps_holes(tmp_path)
        assert not list(tmp_path.glob(TEMPORARY_PREFIX + "*"))
