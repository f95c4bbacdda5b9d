"""`samara repair`: exactly what is wrong is replaced, by a new file, and nobody who reads the old one notices."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import samara, started
from support.pulls import options, pulled
from support.swarms import seeding
from support.world import (
    MIB,
    PIECE,
    Shelf,
    assert_pulled,
    flip,
    flipped_copy,
    leftovers,
    one_blob,
    random_file,
    shelf,
    trusting_home,
)

from samara.fetcher import in_place
from samara.fetcher.repair import Repaired, repair
from samara.fetcher.verify import verify
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import stamp_at
from samara.schemas.errors import DiskFullError, IntegrityError, NetworkError, NotFoundError, StoreError, UsageError
from samara.schemas.events import Event, Note

SIZE = 20 * MIB


def whole(published: Shelf) -> bytes:
    """What the file should be (its source may be the damaged one)."""
    return random_file(published.file.with_name("whole.bin"), published.size, seed=1).read_bytes()


def have(home: Home, published: Shelf) -> Path:
    """Pull it; where its blob lies."""
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
    return home.blob(published.only.b3_hex)


def repaired(home: Home, published: Shelf, target: object, **how: object) -> Repaired:
    """Repair with one honest peer: a machine of its own, with a copy of its own."""
    copy = random_file(published.file.parent / "peer" / "blob.bin", published.size, seed=1)
    meant = how.pop("meant", None)
    there = Shelf(**{**vars(published), "sources": (copy,)})
    with seeding(there) as peer:
        return repair(home, str(target), options(peer.endpoint, **how), meant=meant)  # type: ignore[arg-type]


class TestInTheStore:
    def test_one_flipped_bit_costs_one_piece(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path, SIZE)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        flip(blob, 9 * MIB + 5)
        done = repaired(home, published, published.reference)
        (file,) = done.files
        assert [bad.block.index for bad in file.checked.bad] == [2]
        assert 0 < file.fetched <= PIECE
        assert_pulled(home, published)
        assert not any(file.was_wrong for file in repair(home, published.reference, options()).files)

    def test_what_is_whole_needs_nobody(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        before = stamp_at(blob)
        (file,) = repair(home, published.reference, options()).files
        assert not file.was_wrong
        assert stamp_at(blob) == before

    @pytest.mark.parametrize("wrong", [-3 * MIB, 3 * MIB])
    def test_a_wrong_length_is_mended(self, tmp_path: Path, wrong: int) -> None:
        published = one_blob(tmp_path)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        blob.chmod(0o644)
        os.truncate(blob, published.size + wrong)
        done = repaired(home, published, published.reference)
        assert done.files[0].fetched <= max(0, -wrong) + PIECE
        assert_pulled(home, published)

    def test_a_reader_and_a_hard_link_elsewhere_keep_the_old_bytes(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        flip(blob, 5)
        rotten = blob.read_bytes()
        os.link(blob, tmp_path / "elsewhere.bin")
        events: list[Event] = []
        with blob.open("rb") as reader, seeding(published) as peer:
            repair(home, published.reference, options(peer.endpoint), on_event=events.append)
            assert reader.read() == rotten
        assert (tmp_path / "elsewhere.bin").read_bytes() == rotten
        assert any("1 other name" in event.message for event in events if isinstance(event, Note))
        assert_pulled(home, published)

    def test_good_blocks_of_another_copy_here_are_not_fetched(self, tmp_path: Path) -> None:
        """The publisher's own machine: the store's copy rots, the file in place is right."""
        published = one_blob(tmp_path)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        flip(blob, 5)
        copy = random_file(tmp_path / "copy" / "blob.bin", published.size, seed=1)
        done = repair(home, published.reference, options(adopt=(copy,)))
        assert done.files[0].fetched == 0
        assert_pulled(home, published)

    def test_nobody_to_ask_says_so_and_keeps_the_file(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        flip(blob, 5)
        rotten = blob.read_bytes()
        with pytest.raises(NetworkError, match="nobody to ask"):
            repair(home, published.reference, options())
        assert blob.read_bytes() == rotten
        done = repaired(home, published, published.reference)
        assert 0 < done.files[0].fetched <= PIECE
        assert_pulled(home, published)

    def test_a_view_or_a_blob_named_by_its_path_is_mended(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        for path in (blob, home.models / "acme" / "blob" / "v1" / "blob.bin"):
            flip(path, 5)
            assert repaired(home, published, path).files[0].was_wrong
            assert_pulled(home, published)

    def test_what_is_not_here_is_not_fetched(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        published.source.unlink()
        with pytest.raises(NotFoundError, match="no file of acme/blob:v1 is here — samara pull"):
            repair(published.home, published.reference, options())
        with pytest.raises(NotFoundError, match="is not known here"):
            repair(Home(tmp_path / "empty"), published.reference, options())


class TestInPlace:
    def test_it_keeps_place_name_mode_and_owner(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        published.source.chmod(0o440)
        if os.geteuid() == 0:
            os.chown(published.source, 1234, 4321)
        flip(published.source, 5 * MIB)
        before = published.source.stat()
        with published.source.open("rb") as reader:
            done = repaired(published.home, published, published.source)
            assert reader.read() != whole(published)
        assert 0 < done.files[0].fetched <= PIECE
        assert published.source.read_bytes() == whole(published)
        after = published.source.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert after.st_ino != before.st_ino
        assert list(published.source.parent.iterdir()) == [published.source]
        assert leftovers(published.home) == []
        with Index.open(published.home) as index:
            known = index.location_at(published.source)
        assert known is not None
        assert (known[1].stamp, known[1].in_store) == (stamp_at(published.source), False)

    def test_by_reference_too_and_after_verify_found_it_bad(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        flip(published.source, 5 * MIB)
        assert not verify(published.home, published.reference)[0].ok
        assert repaired(published.home, published, published.reference).files[0].was_wrong
        assert published.source.read_bytes() == whole(published)
        assert verify(published.home, published.reference)[0].ok

    def test_on_another_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        other = Path("/dev/shm")
        if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second disk")
        folder = other / f"samara-test-{os.getpid()}"
        folder.mkdir()
        try:
            published = shelf(tmp_path, [random_file(folder / "blob.bin", 8 * MIB, seed=1)])
            published.source.chmod(0o444)
            flip(published.source, 5)
            with monkeypatch.context() as patched:
                patched.setattr(in_place, "free_bytes", lambda _folder: MIB)
                with pytest.raises(DiskFullError, match="not enough room beside"):
                    repaired(published.home, published, published.source)
            assert repaired(published.home, published, published.source).files[0].was_wrong
            assert published.source.read_bytes() == whole(published)
            assert stat.S_IMODE(published.source.stat().st_mode) == 0o444
            assert list(folder.iterdir()) == [published.source]
            assert leftovers(published.home) == []
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    def test_a_link_stays_one(self, tmp_path: Path) -> None:
        """A Hub cache: the name is a link, the bytes lie in another folder."""
        published = one_blob(tmp_path)
        real = tmp_path / "hub" / "blobs" / "abc"
        real.parent.mkdir(parents=True)
        published.source.rename(real)
        published.source.symlink_to(real)
        flip(real, 5)
        assert repaired(published.home, published, published.source).files[0].was_wrong
        assert published.source.is_symlink()
        assert real.read_bytes() == whole(published)

    def test_a_file_of_no_record_is_left_alone_unless_told_what_it_is(self, tmp_path: Path) -> None:
        """Of the same size as a known blob, it may be another version, and whole."""
        published = one_blob(tmp_path)
        damaged = flipped_copy(published.source, tmp_path / "downloads" / "model.part", [5])
        os.truncate(damaged, published.size - MIB)
        with pytest.raises(NotFoundError, match="not recorded as a file of any release — say which"):
            repair(published.home, str(damaged), options())
        done = repaired(published.home, published, damaged, meant=published.reference)
        assert done.files[0].fetched == 0, "the publisher has every block in place"
        assert damaged.read_bytes() == whole(published)

    def test_a_folder_that_can_not_be_written_is_said_before_anything_is_fetched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        published = one_blob(tmp_path)
        flip(published.source, 5)
        rotten = published.source.read_bytes()
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "files" and access(path, mode))
        with pytest.raises(StoreError, match=r"can't write to .* — repair it as its owner"):
            repaired(published.home, published, published.source)
        assert published.source.read_bytes() == rotten
        assert leftovers(published.home) == []

    def test_a_file_that_its_owner_changes_meanwhile_is_not_replaced(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        flip(published.source, 5)

        def edit(event: Event) -> None:
            if isinstance(event, Note) and "blocks are wrong" in event.message:
                published.source.write_bytes(b"new work")

        copy = random_file(tmp_path / "copy" / "blob.bin", published.size, seed=1)
        with pytest.raises(IntegrityError, match="changed while it was being repaired"):
            repair(published.home, str(published.source), options(adopt=(copy,)), on_event=edit)
        assert published.source.read_bytes() == b"new work"

    def test_two_meanings_of_a_name_are_refused(self, tmp_path: Path) -> None:
        files = [random_file(tmp_path / f"{number}.bin", MIB, seed=number) for number in range(2)]
        published = shelf(tmp_path, files)
        odd = random_file(tmp_path / "odd.bin", MIB, seed=9)
        with pytest.raises(UsageError, match="could be several files of acme/blob:v1"):
            repair(published.home, str(odd), options(), meant=published.reference)


def test_a_full_disk_is_said_and_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = one_blob(tmp_path)
    flip(published.source, 5)
    rotten = published.source.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("samara.fetcher.in_place.reflink", lambda *_: False)
        patched.setattr("samara.fetcher.in_place.free_bytes", lambda _folder: MIB)
        with pytest.raises(DiskFullError, match="not enough room at"):
            repaired(published.home, published, published.source)
    assert published.source.read_bytes() == rotten
    assert repaired(published.home, published, published.source).files[0].was_wrong


def test_one_file_that_can_not_be_mended_does_not_keep_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [random_file(tmp_path / name / "x.bin", MIB, seed=number) for number, name in enumerate("ab")]
    files[1] = files[1].rename(files[1].with_name("y.bin"))
    published = shelf(tmp_path, files)
    for file in files:
        flip(file, 5)
    good = [random_file(tmp_path / "good" / f"{number}.bin", MIB, seed=number) for number in range(2)]
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "a" and access(path, mode))
    with pytest.raises(StoreError, match="can't be replaced"):
        repair(published.home, published.reference, options(adopt=(tmp_path / "good",)))
    assert files[0].read_bytes() != good[0].read_bytes()
    assert files[1].read_bytes() == good[1].read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("in_store", [True, False], ids=["store", "in-place"])
@pytest.mark.parametrize("step", [3, 9, 14, 17, 19, 21, 23, 25])
@pytest.mark.long
def test_killed_at_any_step_it_is_the_old_file_or_the_new_one(tmp_path: Path, step: int, in_store: bool) -> None:
    published = one_blob(tmp_path, MIB)
    home = trusting_home(tmp_path / "home", published) if in_store else published.home
    path = have(home, published) if in_store else published.source
    good = path.read_bytes()
    copy = random_file(tmp_path / "peer" / "blob.bin", MIB, seed=1)
    flip(path, 5)
    rotten = path.read_bytes()
    driver = Path(__file__).with_name("repair_kill_driver.py")
    with seeding(Shelf(**{**vars(published), "sources": (copy,)})) as peer:
        host, port = peer.endpoint
        for moment in (step, 0):
            done = subprocess.run(
                [sys.executable, driver, home.root, published.reference, host, str(port), str(moment)],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode in {0, -signal.SIGKILL}, done.stderr[-2000:]
            assert path.read_bytes() in {rotten, good}
    assert done.returncode == 0
    assert path.read_bytes() == good
    assert leftovers(home) == []
    assert in_store or list(path.parent.iterdir()) == [path]
    if in_store:
        assert_pulled(home, published)


class TestCommand:
    def test_what_was_wrong_and_fetched_is_told(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        home = trusting_home(tmp_path / "home", published)
        blob = have(home, published)
        flip(blob, 5)
        quiet = ("--no-discovery", "--listen", "127.0.0.1:0")
        nobody = samara(home, "repair", published.reference, *quiet)
        assert nobody.status == 4
        assert "nobody to ask" in nobody.message
        with seeding(published) as peer:
            done = samara(home, "repair", published.reference, *quiet, "--peer", peer.text, "--json")
        assert done.status == 0
        assert done.result["mended"] == 1
        assert done.result["bytes_fetched"] <= PIECE
        (file,) = done.result["files"]
        assert (file["bad_blocks"], file["location"]) == ([0], str(blob))
        again = samara(home, "repair", published.reference, *quiet)
        assert again.stdout.startswith("ok ")

    def test_ctrl_c_keeps_the_old_file(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path, SIZE)
        flip(published.source, 5)
        rotten = published.source.read_bytes()
        arguments = ("repair", published.source, "--no-discovery", "--listen", "127.0.0.1:0")
        with started(published.home, *arguments, "--peer", "127.0.0.1:9", "--json") as process:
            process.expect("pull_progress")
            process.send(signal.SIGINT)
            done = process.end()
        assert done.status == 130
        assert published.source.read_bytes() == rotten
        assert repaired(published.home, published, published.source).files[0].was_wrong
