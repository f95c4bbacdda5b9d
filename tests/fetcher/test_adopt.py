"""`samara adopt`: files of other programs are read once, in place, and never fetched or changed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support.models import gguf
from support.processes import samara, started
from support.pulls import Pull, options, pull_half, pulled
from support.swarms import seeding
from support.world import MIB, PIECE, Shelf, flip, flipped_copy, leftovers, one_blob, random_file, shelf, trusting_home

from samara.fetcher.adopt import adopt, forget
from samara.fetcher.audit import findings
from samara.fetcher.audit_facts import collect
from samara.fetcher.verify import verify
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import stamp_at
from samara.schemas.digests import b3
from samara.schemas.errors import NotFoundError
from samara.schemas.events import Event, HashProgress
from samara.schemas.manifest import blocks_of
from samara.seeder.seed import seed


def versions(root: Path) -> tuple[Path, Shelf]:
    """An older file of nobody's release, and a release of it with one tensor tuned."""
    old = gguf(root / "old" / "model.gguf")
    new = gguf(root / "new" / "model.gguf", tuned={5: 999})
    return old, shelf(root, [new], reference="acme/model:v2")


def snapshot(folder: Path) -> list[object]:
    """Everything of every file that must not change."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path, path.stat().st_mode, stamp_at(path), path.read_bytes()) for path in files]


def test_an_older_version_gives_its_blocks_to_later_pulls(tmp_path: Path) -> None:
    old, published = versions(tmp_path)
    home = trusting_home(tmp_path / "home", published)
    before = snapshot(old.parent)
    done = adopt(home, [old.parent])
    assert [(found.path, found.is_known, found.is_new) for found in done.found] == [(old, False, True)]
    with seeding(published) as peer:
        pull = pulled(home, published.file, options(peer.endpoint))
    assert pull.files[0].location.read_bytes() == published.source.read_bytes()
    assert pull.bytes_from_peers <= MIB + 2 * PIECE
    assert snapshot(old.parent) == before


def test_half_a_gguf_is_cut_as_the_whole_one_is(tmp_path: Path) -> None:
    """What a browser left: the header names tensors beyond the end, and those before it are found all the same."""
    published = shelf(tmp_path, [gguf(tmp_path / "new" / "model.gguf")], reference="acme/model:v1")
    part = tmp_path / "downloads" / "model.gguf.part"
    part.parent.mkdir()
    part.write_bytes(published.source.read_bytes()[: 9 * MIB])
    home = trusting_home(tmp_path / "home", published)
    adopt(home, [part])
    with seeding(published) as peer:
        pull = pulled(home, published.file, options(peer.endpoint))
    assert pull.files[0].location.read_bytes() == published.source.read_bytes()
    assert pull.bytes_from_peers <= published.size - 9 * MIB + MIB + 2 * PIECE


def test_a_sparse_half_download_is_found_at_its_own_places(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 20 * MIB)
    whole = published.source.read_bytes()
    part = tmp_path / "ollama" / "sha256-0123-partial"
    part.parent.mkdir()
    with part.open("wb") as file:
        file.truncate(len(whole))
        file.write(whole[: 8 * MIB])
        file.seek(12 * MIB)
        file.write(whole[12 * MIB :])
    home = trusting_home(tmp_path / "home", published)
    adopt(home, [part.parent])
    with seeding(published) as peer:
        pull = pulled(home, published.file, options(peer.endpoint))
    assert pull.bytes_from_peers <= 4 * MIB + 2 * PIECE
    assert pull.files[0].location.read_bytes() == whole


def test_a_whole_blob_of_a_known_release_is_used_where_it_lies(tmp_path: Path) -> None:
    published = one_blob(tmp_path)
    home = trusting_home(tmp_path / "home", published)
    error = Pull(home, published.file, options(("127.0.0.1", 9), give_up_after=1)).error()
    assert error.exit_code == 4
    copy = random_file(tmp_path / "nas" / "renamed.bin", published.size, seed=1)
    (found,) = adopt(home, [copy]).found
    assert (found.is_known, found.blob) == (True, published.only.b3)
    done = pulled(home, published.file, options(give_up_after=5))
    assert done.files[0].location == copy
    assert not home.blob(published.only.b3_hex).exists()


def test_a_pull_that_has_begun_looks_at_what_was_adopted_since(tmp_path: Path) -> None:
    old, published = versions(tmp_path)
    home = trusting_home(tmp_path / "home", published)
    pull_half(home, published)
    adopt(home, [old])
    wrong = flipped_copy(published.source, tmp_path / "wrong" / "model.gguf", [published.size - 5])
    adopt(home, [wrong])
    with seeding(published) as peer:
        done = pulled(home, published.file, options(peer.endpoint))
    assert done.files[0].location.read_bytes() == published.source.read_bytes()
    assert done.bytes_from_peers <= 2 * PIECE
    assert leftovers(home) == []


def test_a_release_that_comes_later_finds_its_blob_adopted(tmp_path: Path) -> None:
    """Also where the file had been cut in another way: the release's own blocks replace ours."""
    published = shelf(tmp_path, [gguf(tmp_path / "new" / "model.gguf")], reference="acme/model:v1")
    home = trusting_home(tmp_path / "home", published)
    with Index.open(home) as index:
        size, data = published.size, published.source.read_bytes()
        index.add_found_blob(
            published.only.b3, published.only.sha256, size, "fixed-4MiB-v1", blocks_of([(size, bytes(32))])
        )
        stamp = stamp_at(published.source)
        assert stamp is not None
        assert b3(data) == published.only.b3
        index.set_location(published.only.b3, published.source, stamp, in_store=False, verified_at=1.0)
    done = pulled(home, published.file, options(give_up_after=5))
    assert done.files[0].location == published.source
    assert [item.rule for item in findings(collect(home)) if item.rule == "index-blocks-differ"] == []
    with Index.open(home) as index:
        assert index.blocks(published.only.b3) == published.only.blocks


def test_running_again_reads_only_what_changed(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    for number in range(3):
        random_file(folder / f"{number}.bin", MIB, seed=number)
    home = Home(tmp_path / "home")
    adopt(home, [folder])
    random_file(folder / "1.bin", 2 * MIB, seed=9)
    read: list[Event] = []
    again = adopt(home, [folder], on_event=read.append)
    assert {event.path for event in read if isinstance(event, HashProgress)} == {"1.bin"}
    assert [found.is_new for found in again.found] == [False, True, False]
    with Index.open(home) as index:
        assert index.counts().blobs == 3, "what the file was before is forgotten"


def test_links_the_store_and_small_files_are_passed_over(tmp_path: Path) -> None:
    """A Hub cache: a snapshot's names are links to blobs; each is read once."""
    home = Home(tmp_path / "cache" / "samara")
    blob = random_file(tmp_path / "cache" / "blobs" / "abc.incomplete", MIB, seed=1)
    names = tmp_path / "cache" / "snapshots" / "main"
    names.mkdir(parents=True)
    (names / "model.gguf").symlink_to("../../blobs/abc.incomplete")
    (names / "dangling").symlink_to("nowhere")
    (names / "circle").symlink_to("circle")
    (names / "up").symlink_to("../..")
    os.link(blob, names / "again.gguf")
    (names / "config.json").write_text("{}")
    random_file(home.blobs / "ab" / "abcd", MIB, seed=2)
    done = adopt(home, [tmp_path / "cache", names])
    assert len(done.found) == 1
    assert done.found[0].path in {blob, names / "again.gguf"}
    assert done.small == 2
    reasons = {skipped.path.name: skipped.reason for skipped in done.skipped}
    assert reasons["samara"] == "the store itself"
    assert "dangling" in reasons
    assert "circle" in reasons


def test_what_can_not_be_read_is_left_out_with_the_reason(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    odd = tmp_path / "cache" / os.fsdecode(b"caf\xe9.bin")
    random_file(tmp_path / "cache" / "good.bin", MIB, seed=1)
    random_file(odd, MIB, seed=2)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "cache" / "pipe")
    done = adopt(home, [tmp_path / "cache"])
    assert [found.path.name for found in done.found] == ["good.bin"]
    assert {skipped.path.name for skipped in done.skipped} == {odd.name, "pipe"}
    with pytest.raises(NotFoundError, match="nowhere doesn't exist"):
        adopt(home, [tmp_path / "nowhere"])


def test_forgotten_files_leave_nothing_in_the_index(tmp_path: Path) -> None:
    published = one_blob(tmp_path)
    folder = tmp_path / "cache"
    random_file(folder / "a%b" / "x.bin", MIB, seed=5)
    gone = random_file(folder / "gone.bin", MIB, seed=6)
    random_file(tmp_path / "CACHE-2" / "y.bin", MIB, seed=7)
    home = published.home
    with Index.open(home) as index:
        before = index.counts()
    adopt(home, [folder])
    gone.unlink()
    assert len(forget(home, [folder])) == 2
    assert forget(home, [folder]) == ()
    with Index.open(home) as index:
        assert index.counts() == before


def test_what_was_recorded_survives_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    for number in range(3):
        random_file(folder / f"{number}.bin", MIB, seed=number)
    home = Home(tmp_path / "home")

    def stop(event: Event) -> None:
        if isinstance(event, HashProgress) and event.path == "2.bin":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adopt(home, [folder], on_event=stop)
    assert [found.is_new for found in adopt(home, [folder]).found] == [False, False, True]


class TestOthers:
    """Blobs of no release are nobody else's business."""

    def test_an_audit_says_nothing_of_them(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        found = random_file(tmp_path / "cache" / "x.bin", MIB, seed=5)
        before = findings(collect(published.home))
        adopt(published.home, [found])
        flip(found, 5)
        assert findings(collect(published.home)) == before
        found.unlink()
        assert findings(collect(published.home)) == before

    def test_they_are_not_seeded(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        found = random_file(tmp_path / "cache" / "x.bin", MIB, seed=5)
        adopt(published.home, [found])
        with pytest.raises(NotFoundError, match="is no blob of a release known here"):
            seed(published.home, paths=[found])

    def test_a_damaged_copy_that_was_adopted_is_still_one(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        flip(published.source, 5 * MIB)
        with Index.open(published.home) as index:
            index.drop_location(published.source)
        adopt(published.home, [published.source])
        (checked,) = verify(published.home, str(published.source))
        assert [bad.block.index for bad in checked.bad] == [1]

    def test_what_verify_finds_bad_is_remembered_as_a_place_only(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        flip(published.source, 5 * MIB)
        for _ in range(2):
            (checked,) = verify(published.home, published.reference)
            assert not checked.ok
        with pytest.raises(NotFoundError):
            seed(published.home, paths=[tmp_path / "nowhere.bin"])
        flip(published.source, 5 * MIB)
        (checked,) = verify(published.home, published.reference)
        assert checked.ok


class TestCommand:
    def test_what_was_found_is_told(self, tmp_path: Path) -> None:
        published = one_blob(tmp_path)
        folder = tmp_path / "cache"
        random_file(folder / "same.bin", published.size, seed=1)
        random_file(folder / "other.bin", MIB, seed=5)
        (folder / "note.txt").write_text("hello")
        done = samara(published.home, "adopt", folder, "--json")
        assert done.status == 0
        assert (done.result["files"], done.result["bytes"]) == (2, published.size + MIB)
        assert [item["blob"] for item in done.result["known_blobs"]] == [published.only.b3]
        assert [item["path"] for item in done.result["new_blobs"]] == [str(folder / "other.bin")]
        assert (done.result["small_files"], done.result["skipped"]) == (1, [])
        assert done.named("hash_progress")
        again = samara(published.home, "adopt", folder)
        assert "2 files" in again.stdout
        assert "2 unchanged" in again.stdout
        forgotten = samara(published.home, "adopt", "--forget", folder, "--json")
        assert len(forgotten.result["forgotten"]) == 2

    def test_ctrl_c_ends_it_with_one_message(self, tmp_path: Path) -> None:
        folder = tmp_path / "cache"
        random_file(folder / "a.bin", MIB, seed=1)
        with (folder / "b.bin").open("wb") as file:
            file.truncate(64 << 30)
        with started(Home(tmp_path / "home"), "adopt", folder, "--json") as process:
            process.expect("hash_progress", lambda event: event["path"] == "b.bin")
            process.send(signal.SIGINT)
            done = process.end()
        assert done.status == 130
        with Index.open(Home(tmp_path / "home")) as index:
            assert index.location_at(folder / "a.bin") is not None
