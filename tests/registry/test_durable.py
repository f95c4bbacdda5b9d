"""Bytes that survive: written aside, synced, renamed; never half there, and every error one of ours."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from samara.registry.durable import (
    TEMPORARY_PREFIX,
    fsync_folder,
    io_error,
    io_errors,
    make_folder,
    publish_name,
    sync_data,
    write_durably,
)
from samara.schemas.errors import DiskFullError, NotFoundError, StoreError


class Recorder:
    """The order in which things below a folder are synced and renamed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        fsync, replace = os.fsync, os.replace

        def noted_fsync(fd: int) -> None:
            synced = (path for path in (root, *root.rglob("*")) if os.path.samestat(path.stat(), os.fstat(fd)))
            self.steps.append(f"fsync {next(synced).name}")
            fsync(fd)

        def noted_replace(source: str | Path, target: str | Path) -> None:
            self.steps.append(f"rename to {Path(target).name}")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(os, "replace", noted_replace)


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class TestWriteDurably:
    def test_the_file_is_there_with_its_bytes_and_mode(self, tmp_path: Path) -> None:
        write_durably(tmp_path / "a", b"bytes", mode=0o600)
        assert (tmp_path / "a").read_bytes() == b"bytes"
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
        assert entries(tmp_path) == ["a"]

    def test_an_older_file_is_replaced_not_written_into(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old")
        os.link(tmp_path / "a", tmp_path / "also a")
        write_durably(tmp_path / "a", b"new")
        assert ((tmp_path / "a").read_bytes(), (tmp_path / "also a").read_bytes()) == (b"new", b"old")

    def test_bytes_are_synced_before_the_name_and_the_name_before_it_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recorder = Recorder(tmp_path, monkeypatch)
        write_durably(tmp_path / "a", b"bytes")
        first, second, third = recorder.steps
        assert first.startswith(f"fsync {TEMPORARY_PREFIX}")
        assert (second, third) == ("rename to a", f"fsync {tmp_path.name}")

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    @pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.EIO, "I/O error")])
    def test_what_fails_leaves_the_old_file_and_no_leftover(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, stop: BaseException
    ) -> None:
        (tmp_path / "a").write_bytes(b"old")

        def fails(*_: object) -> None:
            raise stop

        monkeypatch.setattr(os, step, fails)
        with pytest.raises((KeyboardInterrupt, StoreError)):
            write_durably(tmp_path / "a", b"new")
        assert entries(tmp_path) == ["a"]
        assert (tmp_path / "a").read_bytes() == b"old"

    def test_a_leftover_of_a_killed_process_is_in_nobodys_way(self, tmp_path: Path) -> None:
        (tmp_path / f"{TEMPORARY_PREFIX}0123456789abcdef").write_bytes(b"half")
        write_durably(tmp_path / "a", b"whole")
        assert (tmp_path / "a").read_bytes() == b"whole"

    def test_a_missing_folder_is_a_store_error(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="can't use"):
            write_durably(tmp_path / "missing" / "a", b"")


class TestPublishName:
    def test_the_target_appears_and_the_source_goes(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"bytes")
        publish_name(tmp_path / "a", tmp_path / "x" / "y" / "b")
        assert (tmp_path / "x" / "y" / "b").read_bytes() == b"bytes"
        assert entries(tmp_path) == ["x"]

    def test_both_folders_are_synced_after_the_rename(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("from", "to"):
            (tmp_path / name).mkdir()
        (tmp_path / "from" / "a").touch()
        recorder = Recorder(tmp_path, monkeypatch)
        publish_name(tmp_path / "from" / "a", tmp_path / "to" / "b")
        assert recorder.steps == ["rename to b", "fsync to", "fsync from"]

    def test_a_missing_source_is_a_store_error(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError):
            publish_name(tmp_path / "missing", tmp_path / "b")


class TestMakeFolder:
    def test_every_new_folder_is_synced_into_its_parent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recorder = Recorder(tmp_path, monkeypatch)
        make_folder(tmp_path / "a" / "b")
        make_folder(tmp_path / "a" / "b")
        assert recorder.steps == [f"fsync {tmp_path.name}", "fsync a"]
        assert (tmp_path / "a" / "b").is_dir()

    def test_a_file_in_the_way_is_a_store_error(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        with pytest.raises(StoreError):
            make_folder(tmp_path / "a" / "b")

    def test_a_file_of_that_very_name_is_a_store_error(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        with pytest.raises(StoreError):
            make_folder(tmp_path / "a")

    def test_its_mode_is_for_all_that_are_new(self, tmp_path: Path) -> None:
        make_folder(tmp_path / "a" / "b", mode=0o700)
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]


class TestErrors:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_no_room_is_a_full_disk(self, number: int) -> None:
        found = io_error(OSError(number, os.strerror(number)), Path("x"))
        assert isinstance(found, DiskFullError)
        assert "free some space" in str(found)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOENT, errno.ENAMETOOLONG])
    def test_anything_else_is_the_stores(self, number: int) -> None:
        found = io_error(OSError(number, os.strerror(number)), Path("x"))
        assert isinstance(found, StoreError)
        assert os.strerror(number) in str(found)

    def test_errors_of_ours_pass_as_they_are(self) -> None:
        with pytest.raises(NotFoundError), io_errors(Path("x")):
            raise NotFoundError("x")

    if sys.platform == "linux":

        def test_a_really_full_disk_says_so(self) -> None:
            full = Path("/dev/full")
            with pytest.raises(DiskFullError), io_errors(full), full.open("wb", buffering=0) as file:
                file.write(b"x")


def test_data_and_folders_can_be_synced(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x")
        file.flush()
        sync_data(file.fileno())
    fsync_folder(tmp_path)
