"""Exporting: the same releases give the same file, a whole one or none, and what was there is not lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bundle_kit import again, exported, imported, two_files, unpacked
from support.world import NOW, Shelf, assert_pulled, flip, random_file, shelf, trusting_home

from samara.fetcher import bundle_export, steady
from samara.fetcher.bundle_export import export_bundle
from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.index import Index
from samara.schemas.bundle import INDEX_NAME
from samara.schemas.digests import b3, b3_hex
from samara.schemas.errors import DiskFullError, IntegrityError, NotFoundError, TrustError, UsageError
from samara.schemas.events import CheckProgress, Event


@pytest.fixture
def published(tmp_path: Path) -> Shelf:
    return two_files(tmp_path / "shelf")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick" / "tiny.tar.zst"


def on_stick(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


class TestWhatIsInIt:
    def test_the_list_then_metadata_then_releases_then_blobs(self, published: Shelf, target: Path) -> None:
        exported(published, target)
        files = unpacked(target)
        weights = published.release.files[0]
        assert [name for name, _ in files] == [
            INDEX_NAME,
            f"metadata/{published.publisher.identity}",
            f"releases/{b3_hex(published.release.digest)}.release.json",
            f"blobs/{weights.b3_hex}",
        ]
        assert files[-1][1] == published.sources[0].read_bytes()
        assert b3(files[-1][1]) == weights.b3

    def test_releases_that_share_a_blob_carry_it_once(self, published: Shelf, target: Path, tmp_path: Path) -> None:
        other = shelf(
            tmp_path / "shelf", [published.sources[0]], reference="acme/tiny:copy", publisher=published.publisher
        )
        made = exported(published, target, "acme/tiny:v1", "acme/tiny:copy", "acme/tiny:v1")
        assert len(made.index.releases) == 2
        assert [name for name, _ in unpacked(target)][-1] == f"blobs/{published.release.files[0].b3_hex}"
        home = trusting_home(tmp_path / "home", published)
        assert len(imported(home, target).releases) == 2
        assert_pulled(home, published)
        assert_pulled(home, other)

    def test_releases_of_several_publishers(self, published: Shelf, target: Path, tmp_path: Path) -> None:
        other = shelf(
            tmp_path / "o", [random_file(tmp_path / "x.bin", 90_000, seed=5)], reference="bravo/chat:f16"
        )  # fmt: skip
        first = exported(other, tmp_path / "bravo.tar.zst")
        from samara.registry.trust.pins import TrustFolder

        TrustFolder(published.home.trust).add("bravo", other.publisher.identity, now=NOW)
        imported(published.home, first.path)
        exported(published, target, "acme/tiny:v1", "bravo/chat:f16")
        home = trusting_home(tmp_path / "home", published)
        with pytest.raises(TrustError, match="samara trust add bravo"):
            imported(home, target)
        assert not home.blobs.exists()
        TrustFolder(home.trust).add("bravo", other.publisher.identity, now=NOW)
        imported(home, target)
        assert_pulled(home, published)
        assert_pulled(home, other)

    def test_progress_is_told_to_the_end(self, published: Shelf, target: Path) -> None:
        seen: list[Event] = []
        export_bundle(published.home, [published.reference], target, on_event=seen.append)
        last = [event for event in seen if isinstance(event, CheckProgress)][-1]
        assert last.done == last.total == published.release.files[0].size


class TestDeterminism:
    def test_the_same_releases_give_the_same_bytes(
        self, published: Shelf, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        third = tmp_path / "third.tar.zst"
        again(tmp_path / "shelf", published, seed=2)
        pinned = f"acme/tiny@{published.release.digest}"
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
        exported(published, target, pinned, "acme/tiny:v1")
        one = target.read_bytes()
        monkeypatch.setattr(bundle_export, "cores", lambda: 7)
        monkeypatch.setattr(bundle_export, "_CHUNK", 333_333)
        exported(published, third, "acme/tiny:v1", pinned)
        assert third.read_bytes() == one

    def test_source_date_epoch_stamps_it(
        self, published: Shelf, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
        assert exported(published, target).index.created == "2026-01-02T03:04:05Z"
        assert exported(published, target, now=datetime(2020, 1, 1, tzinfo=UTC)).index.created == "2020-01-01T00:00:00Z"
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "tomorrow")
        with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
            exported(published, target)


class TestWholeOrNothing:
    def test_a_blob_that_rotted_is_an_error_and_no_file_appears(self, published: Shelf, target: Path) -> None:
        flip(published.sources[0], 3_000_000)
        with pytest.raises(IntegrityError, match="changed since it was verified"):
            exported(published, target)
        assert on_stick(target) == []

    def test_a_blob_that_changed_visibly_is_not_here(self, published: Shelf, target: Path) -> None:
        with published.sources[0].open("ab") as file:
            file.write(b"x")
        with pytest.raises(NotFoundError, match="not here whole and verified"):
            exported(published, target)
        assert on_stick(target) == []

    @pytest.mark.parametrize(
        "change",
        [lambda path: os.truncate(path, 1_000_000), lambda path: os.truncate(path, 6_000_000)],
        ids=["shorter", "longer"],
    )
    def test_a_blob_that_changes_meanwhile(
        self, published: Shelf, target: Path, change: Callable[[Path], object]
    ) -> None:
        def meddle(event: Event) -> None:
            if isinstance(event, CheckProgress) and event.done < event.total:
                change(published.sources[0])

        with pytest.raises(IntegrityError, match="changed since"):
            export_bundle(published.home, [published.reference], target, on_event=meddle)
        assert on_stick(target) == []

    def test_interrupted_it_leaves_nothing(self, published: Shelf, target: Path) -> None:
        def interrupt(event: Event) -> None:
            if isinstance(event, CheckProgress):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_bundle(published.home, [published.reference], target, on_event=interrupt)
        assert on_stick(target) == []

    def test_a_failure_keeps_the_bundle_that_was_there(self, published: Shelf, target: Path) -> None:
        exported(published, target)
        before = target.read_bytes()
        flip(published.sources[0], 0)
        with pytest.raises(IntegrityError):
            exported(published, target)
        assert target.read_bytes() == before

    def test_a_full_disk_is_said_and_leaves_nothing(
        self, published: Shelf, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(steady, "sync_data", full)
        with pytest.raises(DiskFullError):
            exported(published, target)
        assert on_stick(target) == []

    def test_what_a_killed_export_left_is_swept(self, published: Shelf, target: Path) -> None:
        (target.parent / f"{TEMPORARY_PREFIX}bundle-0123").write_bytes(b"half")
        (target.parent / f"{TEMPORARY_PREFIX}other").write_bytes(b"somebody else's")
        exported(published, target)
        assert on_stick(target) == [f"{TEMPORARY_PREFIX}other", target.name]

    def test_the_file_of_a_living_export_is_not_swept(self, published: Shelf, target: Path) -> None:
        seen = 0

        def meanwhile(event: Event) -> None:
            nonlocal seen
            if isinstance(event, CheckProgress) and not seen:
                seen = 1
                exported(published, target.with_name("other.tar.zst"))

        export_bundle(published.home, [published.reference], target, on_event=meanwhile)
        assert on_stick(target) == ["other.tar.zst", target.name]
        assert len(unpacked(target)) == 4


class TestWhereItGoes:
    def test_another_bundle_is_replaced(self, published: Shelf, target: Path) -> None:
        exported(published, target, now=NOW)
        before = target.read_bytes()
        exported(published, target)
        assert target.read_bytes() != before

    @pytest.mark.parametrize("content", [b"", b"my thesis", b"\x28\xb5\x2f\xfd of another kind"])
    def test_nothing_else_is(self, published: Shelf, target: Path, content: bytes) -> None:
        target.write_bytes(content)
        with pytest.raises(UsageError, match="no bundle"):
            exported(published, target)
        assert target.read_bytes() == content

    def test_no_link_and_no_folder_is(self, published: Shelf, target: Path) -> None:
        target.symlink_to("/nonexistent")
        with pytest.raises(UsageError, match="no bundle"):
            exported(published, target)
        target.unlink()
        target.mkdir()
        with pytest.raises(UsageError, match="no bundle"):
            exported(published, target)

    def test_the_name_must_say_what_it_is(self, published: Shelf, tmp_path: Path) -> None:
        """So that `samara bundle export a/b:c d/e:f` doesn't write a file of that name."""
        with pytest.raises(UsageError, match=r"\.tar\.zst"):
            exported(published, tmp_path / "tiny:v1")

    def test_the_folder_must_be_there(self, published: Shelf, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="folder"):
            exported(published, tmp_path / "nowhere" / "tiny.tar.zst")

    def test_not_into_the_store(self, published: Shelf) -> None:
        with pytest.raises(UsageError, match="inside the store"):
            exported(published, published.home.root / "tiny.tar.zst")

    def test_little_room_is_said_before(
        self, published: Shelf, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        monkeypatch.setattr(bundle_export, "free_bytes", lambda _folder: 1000)
        seen: list[str] = []
        export_bundle(published.home, [published.reference], target, on_event=lambda event: seen.append(str(event)))
        assert any("1,000 bytes free" in line for line in seen)


class TestWhatIsAskedFor:
    def test_unknown_releases(self, published: Shelf, target: Path, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError):
            exported(published, target, "acme/tiny:v2")
        with pytest.raises(NotFoundError):
            export_bundle(Home(tmp_path / "empty"), ["acme/tiny:v1"], target)
        with pytest.raises(UsageError):
            exported(published, target, "tiny")
        with pytest.raises(UsageError):
            export_bundle(published.home, [], target)
        assert on_stick(target) == []

    def test_a_file_that_isnt_here(self, published: Shelf, target: Path) -> None:
        published.sources[0].unlink()
        with pytest.raises(NotFoundError, match="samara pull acme/tiny:v1"):
            exported(published, target)

    def test_what_was_imported_can_be_exported_again(self, published: Shelf, target: Path, tmp_path: Path) -> None:
        exported(published, target, now=NOW)
        home = trusting_home(tmp_path / "home", published)
        imported(home, target)
        again = export_bundle(home, ["acme/tiny:v1"], tmp_path / "again.tar.zst", now=NOW)
        assert again.path.read_bytes() == target.read_bytes()
        with Index.open(home) as index:
            assert index.counts().releases == 1
