"""The store: how blobs become visible, and the names other programs read them by."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from index_kit import WEIGHTS

from samara.registry import store
from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.records import BlobRecord, Location
from samara.registry.store import (
    clone,
    commit_blob,
    free_bytes,
    last_seen,
    link_into,
    link_view,
    seal,
    stamp_at,
    whole_copy,
)
from samara.schemas.digests import b3, b3_hex
from samara.schemas.errors import DiskFullError, StoreError, UsageError
from samara.schemas.stamps import Stamp

NAME = b3_hex(b3(WEIGHTS))
VIEW = Path("acme", "tiny", "q8_0", "model.gguf")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


@pytest.fixture
def blob(home: Home) -> Path:
    """A committed blob."""
    return commit_blob(home, NAME, finished(home))


def finished(home: Home) -> Path:
    """A partial's data, whole and proven."""
    data = home.partials / NAME / "data"
    data.parent.mkdir(parents=True)
    data.write_bytes(WEIGHTS)
    return data


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reflinks nor hard links reach where we want them, as on another disk."""
    monkeypatch.setattr(store, "_reflink", lambda *_: False)
    monkeypatch.setattr(os, "link", no_links)


class TestCommit:
    def test_the_data_becomes_a_read_only_blob_under_its_digest(self, home: Home) -> None:
        data = finished(home)
        inode = data.stat().st_ino
        path = commit_blob(home, NAME, data)
        assert path == home.blobs / NAME[:2] / NAME
        assert path.read_bytes() == WEIGHTS
        assert (mode(path), path.stat().st_ino) == (0o444, inode)
        assert not data.exists()

    def test_a_blob_that_is_already_there_is_replaced_by_the_same(self, home: Home, blob: Path) -> None:
        with blob.open("rb") as reader:
            (home.partials / NAME / "data").write_bytes(WEIGHTS)
            assert commit_blob(home, NAME, home.partials / NAME / "data") == blob
            assert reader.read() == WEIGHTS
        assert mode(blob) == 0o444

    def test_killed_before_the_rename_the_data_can_still_be_written(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next pull opens it for writing; root always may, others only if its mode says so."""
        data = finished(home)
        before = mode(data)

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                commit_blob(home, NAME, data)
        assert mode(data) == before
        assert not home.blob(NAME).exists()
        assert commit_blob(home, NAME, data).read_bytes() == WEIGHTS

    def test_it_is_read_only_for_good_before_the_index_hears_of_it(
        self, blob: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_mode & 0o777))
        seal(blob)
        assert synced == []
        blob.chmod(0o644)
        seal(blob)
        assert mode(blob) == 0o444
        assert synced == ([] if sys.platform == "win32" else [0o444])

    def test_data_that_is_gone_is_a_store_error(self, home: Home) -> None:
        with pytest.raises(StoreError):
            commit_blob(home, NAME, home.partials / "gone")


class TestStamps:
    def test_a_regular_file_has_a_stamp(self, blob: Path) -> None:
        found = stamp_at(blob)
        assert found is not None
        assert found == Stamp.of(blob.stat())
        assert found.size == len(WEIGHTS)

    def test_what_is_no_regular_file_has_none(self, tmp_path: Path, blob: Path) -> None:
        assert stamp_at(tmp_path) is None
        assert stamp_at(tmp_path / "gone") is None
        assert stamp_at(blob / "below") is None
        if sys.platform != "win32":
            os.mkfifo(tmp_path / "pipe")
            assert stamp_at(tmp_path / "pipe") is None

    def test_what_cannot_be_looked_at_is_not_called_gone(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="can't use"):
            stamp_at(looped(tmp_path))

    def test_every_touch_changes_it(self, tmp_path: Path) -> None:
        file = tmp_path / "a"
        file.write_bytes(b"1")
        before = stamp_at(file)
        os.utime(file, ns=(0, 0))
        touched = stamp_at(file)
        file.write_bytes(b"12")
        os.utime(file, ns=(0, 0))
        grown = stamp_at(file)
        (tmp_path / "b").write_bytes(b"12")
        os.utime(tmp_path / "b", ns=(0, 0))
        (tmp_path / "b").replace(file)
        assert len({str(stamp) for stamp in (before, touched, grown, stamp_at(file))}) == 4

    def test_a_link_and_its_file_have_one_stamp(self, tmp_path: Path, blob: Path) -> None:
        (tmp_path / "link").symlink_to(blob)
        os.link(blob, tmp_path / "same")
        assert stamp_at(tmp_path / "link") == stamp_at(tmp_path / "same") == stamp_at(blob)


def looped(folder: Path) -> Path:
    """A path that even root can't look at: a link to itself."""
    path = folder / "loop"
    path.symlink_to(path)
    return path


class TestWholeCopy:
    def test_a_place_that_cannot_be_looked_at_is_passed_over(self, tmp_path: Path, blob: Path) -> None:
        record = self.record((blob, False))
        unreadable = replace(record.locations[0], path=looped(tmp_path), in_store=True)
        both = replace(record, locations=(unreadable, *record.locations))
        assert whole_copy(both) == record.locations[0]
        blob.unlink()
        assert whole_copy(both) is None
        with pytest.raises(StoreError, match="loop"):
            last_seen(both)
        assert last_seen(record) is None

    def record(self, *places: tuple[Path, bool]) -> BlobRecord:
        locations = []
        for path, in_store in places:
            stamp = stamp_at(path)
            assert stamp is not None
            locations.append(Location(path=path, stamp=stamp, in_store=in_store, verified_at=1.0))
        return BlobRecord(
            b3=b3(WEIGHTS), sha256="", size=len(WEIGHTS), layout="", torrents=(), file_name=None,
            locations=tuple(locations),
        )  # fmt: skip

    def test_the_stores_own_copy_comes_first(self, tmp_path: Path, blob: Path) -> None:
        (tmp_path / "in place").write_bytes(WEIGHTS)
        found = whole_copy(self.record((tmp_path / "in place", False), (blob, True)))
        assert found is not None
        assert found.path == blob

    def test_a_touched_or_vanished_file_is_no_copy(self, tmp_path: Path) -> None:
        for name in ("touched", "gone", "sound"):
            (tmp_path / name).write_bytes(WEIGHTS)
        record = self.record(*((tmp_path / name, False) for name in ("touched", "gone", "sound")))
        os.utime(tmp_path / "touched", ns=(0, 0))
        (tmp_path / "gone").unlink()
        found = whole_copy(record)
        assert found is not None
        assert found.path.name == "sound"
        (tmp_path / "sound").unlink()
        assert whole_copy(record) is None

    def test_a_blob_without_places_has_none(self) -> None:
        assert whole_copy(self.record()) is None


class TestViews:
    def test_a_view_is_a_hard_link(self, home: Home, blob: Path) -> None:
        view = link_view(home, blob, VIEW)
        assert view == home.models / VIEW
        assert view.samefile(blob)
        assert not view.is_symlink()
        assert (view.stat().st_nlink, mode(view)) == (2, 0o444)

    def test_a_view_that_is_there_stays(self, home: Home, blob: Path) -> None:
        first = link_view(home, blob, VIEW).stat()
        assert link_view(home, blob, VIEW).stat() == first

    def test_a_view_of_something_else_is_replaced(self, home: Home, blob: Path, tmp_path: Path) -> None:
        view = home.models / VIEW
        view.parent.mkdir(parents=True)
        view.write_bytes(b"an older version")
        assert link_view(home, blob, VIEW).samefile(blob)
        view.unlink()
        view.symlink_to(tmp_path / "gone")
        assert link_view(home, blob, VIEW).samefile(blob)

    def test_where_hard_links_do_not_reach_it_is_a_symlink(self, home: Home, blob: Path, other_disk: None) -> None:
        view = link_view(home, blob, VIEW)
        assert view.is_symlink()
        assert view.read_bytes() == WEIGHTS

    def test_where_no_link_reaches_it_is_a_copy(
        self, home: Home, blob: Path, other_disk: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "symlink", no_links)
        view = link_view(home, blob, VIEW)
        assert not view.is_symlink()
        assert not view.samefile(blob)
        assert view.read_bytes() == WEIGHTS

    def test_a_folder_in_the_way_is_a_store_error_and_leaves_nothing(self, home: Home, blob: Path) -> None:
        (home.models / VIEW).mkdir(parents=True)
        with pytest.raises(StoreError):
            link_view(home, blob, VIEW)
        assert leftovers(home.root) == []


class TestLinkInto:
    def test_the_bytes_get_the_new_name_without_touching_the_blob(self, tmp_path: Path, blob: Path) -> None:
        how = link_into(blob, tmp_path / "to" / "sub" / "m.gguf", replace=False)
        assert how in {"reflink", "hardlink", "copy"}
        assert (tmp_path / "to" / "sub" / "m.gguf").read_bytes() == blob.read_bytes() == WEIGHTS

    def test_on_another_disk_it_is_a_copy(self, tmp_path: Path, blob: Path, other_disk: None) -> None:
        assert link_into(blob, tmp_path / "m.gguf", replace=False) == "copy"
        assert (tmp_path / "m.gguf").read_bytes() == WEIGHTS
        assert not (tmp_path / "m.gguf").samefile(blob)

    def test_the_same_file_stays_as_it_is(self, tmp_path: Path, blob: Path) -> None:
        os.link(blob, tmp_path / "m.gguf")
        assert link_into(blob, tmp_path / "m.gguf", replace=False) == "same"

    def test_somebody_elses_file_is_not_replaced_unless_asked(self, tmp_path: Path, blob: Path) -> None:
        (tmp_path / "m.gguf").write_bytes(b"mine")
        with pytest.raises(UsageError, match="already exists"):
            link_into(blob, tmp_path / "m.gguf", replace=False)
        assert (tmp_path / "m.gguf").read_bytes() == b"mine"
        link_into(blob, tmp_path / "m.gguf", replace=True)
        assert (tmp_path / "m.gguf").read_bytes() == WEIGHTS

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_says_so_and_leaves_nothing(
        self, tmp_path: Path, blob: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(store, "_reflink", lambda *_: False)
        monkeypatch.setattr(os, "link", full)
        with pytest.raises(DiskFullError):
            link_into(blob, tmp_path / "m.gguf", replace=False)
        assert not (tmp_path / "m.gguf").exists()
        assert leftovers(tmp_path) == []

    def test_a_copy_that_fails_half_way_leaves_nothing(
        self, tmp_path: Path, blob: Path, other_disk: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError):
            link_into(blob, tmp_path / "m.gguf", replace=True)
        assert leftovers(tmp_path) == []

    def test_a_source_that_is_gone_is_a_store_error(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError):
            link_into(tmp_path / "gone", tmp_path / "m.gguf", replace=False)
        assert leftovers(tmp_path) == []

    def test_what_a_killed_process_left_is_in_nobodys_way(self, tmp_path: Path, blob: Path) -> None:
        (tmp_path / f"{TEMPORARY_PREFIX}0123456789abcdef").write_bytes(b"half a copy")
        link_into(blob, tmp_path / "m.gguf", replace=False)
        assert (tmp_path / "m.gguf").read_bytes() == WEIGHTS


class TestClone:
    @pytest.mark.parametrize("reflinks", [True, False])
    def test_a_clone_can_be_written_without_changing_its_source(
        self, tmp_path: Path, blob: Path, monkeypatch: pytest.MonkeyPatch, reflinks: bool
    ) -> None:
        if not reflinks:
            monkeypatch.setattr(store, "_reflink", lambda *_: False)
        clone(blob, tmp_path / "data")
        assert (tmp_path / "data").read_bytes() == WEIGHTS
        assert mode(tmp_path / "data") & 0o200
        (tmp_path / "data").write_bytes(b"changed")
        assert blob.read_bytes() == WEIGHTS

    def test_nothing_is_overwritten(self, tmp_path: Path, blob: Path) -> None:
        (tmp_path / "data").write_bytes(b"there")
        with pytest.raises(StoreError):
            clone(blob, tmp_path / "data")
        assert (tmp_path / "data").read_bytes() == b"there"


class TestHome:
    def test_the_environment_says_where(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Home.find({"SAMARA_HOME": str(tmp_path)}).root == tmp_path
        monkeypatch.chdir(tmp_path)
        assert Home.find({"SAMARA_HOME": "here"}).root == tmp_path / "here"
        monkeypatch.setenv("HOME", str(tmp_path))
        assert Home.find({"SAMARA_HOME": "~/there"}).root == tmp_path / "there"

    @pytest.mark.parametrize("environ", [{}, {"SAMARA_HOME": ""}])
    def test_without_it_the_platforms_data_folder_is_meant(self, environ: dict[str, str]) -> None:
        assert Home.find(environ).root.is_absolute()
        assert "samara" in Home.find(environ).root.parts[-1].lower()

    def test_a_user_that_does_not_exist_is_a_store_error(self) -> None:
        with pytest.raises(StoreError, match="names a user"):
            Home.find({"SAMARA_HOME": "~no-such-user-here/x"})

    def test_free_bytes_are_known_of_folders_that_are_not_there_yet(self, tmp_path: Path) -> None:
        assert free_bytes(tmp_path / "a" / "b") > 0


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(f"{TEMPORARY_PREFIX}*")]
