"""Importing bytes: all are held against the manifest first, what is here is not written again, nothing half visible."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bundle_kit import (
    Files,
    Told,
    clock,
    exported,
    imported,
    nothing_left,
    repacked,
    two_files,
    view,
    visible,
)
from support.pulls import pull_half
from support.world import MIB, Shelf, assert_pulled, flip, leftovers, one_blob, random_file, shelf, trusting_home

from samara.fetcher import bundle_import, bundle_lanes, steady
from samara.fetcher.audit import findings
from samara.fetcher.audit_facts import collect
from samara.fetcher.bundle_import import STAGING, import_bundle
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import stamp_at
from samara.schemas.errors import DiskFullError, IntegrityError, StoreError
from samara.schemas.events import CheckProgress, Event, Reached


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return two_files(tmp_path_factory.mktemp("shelf"), size=9 * MIB + 77)


@pytest.fixture(scope="module")
def bundle(published: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(published, tmp_path_factory.mktemp("stick") / "tiny.tar.zst").path


@pytest.fixture
def home(tmp_path: Path, published: Shelf) -> Home:
    return trusting_home(tmp_path / "home", published)


def clean(home: Home) -> bool:
    return nothing_left(home) and not home.blobs.exists() and not home.models.exists()


# -- proving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 4 * MIB - 1, 4 * MIB, 9 * MIB + 76])
def test_one_wrong_bit_in_a_blob_names_the_block(
    home: Home, bundle: Path, published: Shelf, tmp_path: Path, at: int
) -> None:  # fmt: skip
    def rot(files: Files) -> Files:
        name, data = files[-1]
        return [*files[:-1], (name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])]

    block = at // (4 * MIB)
    with pytest.raises(IntegrityError, match=f"block {block} .bytes {block * 4 * MIB}–"):
        imported(home, repacked(bundle, tmp_path / "bad.tar.zst", rot))
    assert clean(home)


def test_a_wrong_bit_at_the_very_end_shows_nothing_of_what_was_right(tmp_path: Path) -> None:
    """Two releases; only the last blob is wrong."""
    first = two_files(tmp_path / "shelf", seed=1)
    shelf(
        tmp_path / "shelf", [random_file(tmp_path / "b.bin", 5 * MIB, seed=3)], reference="acme/tiny:v2",
        publisher=first.publisher,
    )  # fmt: skip
    home = trusting_home(tmp_path / "home", first)
    both = exported(first, tmp_path / "both.tar.zst", "acme/tiny:v1", "acme/tiny:v2")

    def rot(files: Files) -> Files:
        name, data = files[-1]
        return [*files[:-1], (name, data[:-1] + bytes([data[-1] ^ 1]))]

    with pytest.raises(IntegrityError):
        imported(home, repacked(both.path, tmp_path / "bad.tar.zst", rot))
    assert clean(home)


def test_blocks_of_another_file_under_a_whole_that_doesnt_fit(
    monkeypatch: pytest.MonkeyPatch, home: Home, bundle: Path
) -> None:
    """Block digests that fit and a whole that doesn't can only be a lying manifest; the whole is asked all the same."""
    monkeypatch.setattr(bundle_lanes.Proof, "blocks", lambda _self, _data: None)
    imported(home, bundle)
    flipped = two_wrong(bundle)
    with pytest.raises(IntegrityError, match="although each block is right"):
        imported(home, flipped)


def two_wrong(bundle: Path) -> Path:
    def rot(files: Files) -> Files:
        name, data = files[-1]
        return [*files[:-1], (name, bytes([data[0] ^ 1]) + data[1:])]

    return repacked(bundle, bundle.with_name("flipped.tar.zst"), rot)


# -- what is here already ----------------------------------------------------------------------------------------------


def test_what_is_here_is_not_written_again_but_still_read(home: Home, bundle: Path, published: Shelf) -> None:
    first = imported(home, bundle)
    assert first.bytes_written == first.bytes_total == published.release.files[0].size
    blob = home.blob(published.release.files[0].b3_hex)
    before = stamp_at(blob)
    told = Told()
    second = imported(home, bundle, told=told)
    assert second.bytes_written == 0
    assert stamp_at(blob) == before
    assert any(isinstance(event, CheckProgress) for event in told.events)
    with pytest.raises(IntegrityError):
        imported(home, two_wrong(bundle))
    assert_pulled(home, published)


def test_a_blob_that_lies_elsewhere_stays_there(tmp_path: Path, bundle: Path, published: Shelf) -> None:
    """The publisher's own machine: the file it published in place."""
    done = imported(published.home, bundle)
    assert done.bytes_written == 0
    assert done.releases[0].files[0].location == published.sources[0]


def test_a_blob_without_a_row_is_read_and_used(home: Home, bundle: Path, published: Shelf) -> None:
    file = published.release.files[0]
    home.blob(file.b3_hex).parent.mkdir(parents=True)
    home.blob(file.b3_hex).write_bytes(published.sources[0].read_bytes())
    assert imported(home, bundle).bytes_written == 0
    assert_pulled(home, published)


def test_a_damaged_blob_in_the_store_is_replaced(home: Home, bundle: Path, published: Shelf) -> None:
    imported(home, bundle)
    blob = home.blob(published.release.files[0].b3_hex)
    with Index.open(home) as index:
        index.drop_location(blob)
    flip(blob, 5_000_000)
    assert imported(home, bundle).bytes_written == published.release.files[0].size
    assert_pulled(home, published)


def test_an_interrupted_pull_of_the_same_blob_is_finished_by_it(tmp_path: Path) -> None:
    published = one_blob(tmp_path / "shelf")
    home = trusting_home(tmp_path / "home", published)
    pull_half(home, published)
    assert leftovers(home)
    imported(home, exported(published, tmp_path / "one.tar.zst").path)
    assert_pulled(home, published)


def test_names_that_show_something_else_are_put_right(home: Home, bundle: Path, published: Shelf) -> None:
    shown = view(home, published, published.release.files[0])
    shown.parent.mkdir(parents=True)
    shown.write_bytes(b"somebody wrote here")
    imported(home, bundle)
    assert_pulled(home, published)


def test_an_audit_finds_nothing_afterwards(home: Home, bundle: Path) -> None:
    imported(home, bundle)
    assert findings(collect(home)) == ()


# -- room, locks, leftovers --------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    home: Home, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_import, "free_bytes", lambda _folder: 9 * MIB)
    with pytest.raises(DiskFullError, match="not enough room"):
        imported(home, bundle)
    assert clean(home)


def test_two_imports_at_once_dont_sweep_each_other(home: Home, bundle: Path, published: Shelf) -> None:
    refusals: list[BaseException] = []

    def meanwhile(event: Event) -> None:
        if isinstance(event, CheckProgress) and not refusals:
            with pytest.raises(StoreError, match="another bundle is being imported") as caught:
                imported(home, bundle)
            refusals.append(caught.value)

    import_bundle(home, bundle, now=clock(), on_event=meanwhile)
    assert refusals
    assert_pulled(home, published)


def test_what_a_killed_import_left_is_swept(home: Home, bundle: Path, published: Shelf) -> None:
    (home.root / STAGING).mkdir(parents=True)
    (home.root / STAGING / ("ab" * 32)).write_bytes(b"half a blob")
    imported(home, bundle)
    assert_pulled(home, published)


def test_a_planted_link_in_the_stagings_place_is_not_followed(
    home: Home, bundle: Path, published: Shelf, tmp_path: Path
) -> None:  # fmt: skip
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    home.root.mkdir(exist_ok=True)
    (home.root / STAGING).symlink_to(outside)
    imported(home, bundle)
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert_pulled(home, published)


@pytest.mark.parametrize("point", ["import-blobs", "import-trust", "import-index", "import-names"])
def test_interrupted_anywhere_the_same_command_again_ends_well(
    home: Home, bundle: Path, published: Shelf, point: str
) -> None:
    def interrupt(event: Event) -> None:
        if event == Reached(point=point):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_bundle(home, bundle, now=clock(), on_event=interrupt)
    assert not (home.root / STAGING).exists()
    assert not home.models.exists()
    imported(home, bundle)
    assert_pulled(home, published)


def test_interrupted_while_bytes_come_nothing_is_left(home: Home, bundle: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, CheckProgress):
            raise KeyboardInterrupt

    before = visible(home)
    with pytest.raises(KeyboardInterrupt):
        import_bundle(home, bundle, now=clock(), on_event=interrupt)
    assert visible(home) == before
    assert clean(home)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("import")] == []


def test_a_disk_that_fails_while_writing_is_said(
    home: Home, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(steady, "sync_data", full)
    with pytest.raises(DiskFullError):
        imported(home, bundle)
    assert clean(home)


def test_what_fails_while_more_bytes_come_is_not_forgotten(
    home: Home, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells once that bytes were lost, and to whoever syncs first."""
    first = threading.Event()

    def fails_once(_fd: int) -> None:
        if not first.is_set():
            first.set()
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(steady, "SYNC_EVERY", MIB)
    monkeypatch.setattr(steady, "sync_data", fails_once)
    with pytest.raises(StoreError, match="Input/output error"):
        imported(home, bundle)
    assert clean(home)


MEASURE = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from samara.fetcher.bundle_export import export_bundle
from samara.fetcher.bundle_import import import_bundle
from samara.registry.home import Home
if sys.argv[1] == "export":
    export_bundle(Home(Path(sys.argv[2])), ["acme/blob:v1"], Path(sys.argv[3]))
else:
    import_bundle(Home(Path(sys.argv[2])), Path(sys.argv[3]), now=datetime.now(UTC))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory_of(act: str, home: Home, bundle: Path) -> int:
    """The most memory, in bytes, of a process that does it."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, act, home.root, bundle], capture_output=True, text=True, check=True,
        timeout=120, env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells memory otherwise")
@pytest.mark.long
def test_memory_doesnt_grow_with_the_file(tmp_path: Path) -> None:
    took = {}
    for size in (MIB, 96 * MIB):
        published = one_blob(tmp_path / str(size), size)
        home = trusting_home(tmp_path / f"home-{size}", published)
        stick = tmp_path / f"{size}.tar.zst"
        took[size] = [memory_of("export", published.home, stick), memory_of("import", home, stick)]
        assert_pulled(home, published)
    for small, large in zip(took[MIB], took[96 * MIB], strict=True):
        assert large - small < 32 * MIB, f"{took} bytes"
