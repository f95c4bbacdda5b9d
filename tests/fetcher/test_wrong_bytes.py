"""A bit flipped wherever bytes come from or lie: found, blamed on the right one, and the pull still ends right."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mirrors import mirror
from support.pulls import Pull, options, pull_half, pulled
from support.swarms import lying, seeding
from support.world import (
    FIXTURES,
    MIB,
    PIECE,
    Shelf,
    assert_pulled,
    flip,
    flipped_copy,
    one_blob,
    partial_data,
    shelf,
    trusting_home,
)

from samara.fetcher.recheck import problem_of
from samara.fetcher.verify import verify
from samara.registry.index import Index
from samara.registry.store import whole_copy
from samara.schemas.errors import ExitCode, NetworkError
from samara.schemas.events import PullProgress, SourceRejected, Warned

SIZE = 8 * MIB


@pytest.fixture
def shelved(tmp_path: Path) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE)


def everywhere(size: int) -> list[int]:
    """An offset in every piece."""
    return list(range(1000, size, PIECE))


def test_a_lying_peer_is_named_and_the_honest_one_completes_the_pull(tmp_path: Path, shelved: Shelf) -> None:
    wrong = flipped_copy(shelved.source, tmp_path / "wrong" / "data", everywhere(SIZE))
    home = trusting_home(tmp_path / "home", shelved)
    with lying(shelved, wrong) as liar, seeding(shelved, up=10_000_000) as honest:
        pull = Pull(home, shelved.file, options(liar.endpoint, honest.endpoint))
        rejected = pull.expect(SourceRejected)
        done = pull.result()
    assert (rejected.kind, rejected.source) == ("peer", liar.text)
    assert "wrong bytes" in rejected.reason
    assert done.rejected == (rejected,)
    assert_pulled(home, shelved)


def test_a_peer_that_lies_about_one_byte_is_found_too(tmp_path: Path, shelved: Shelf) -> None:
    wrong = flipped_copy(shelved.source, tmp_path / "wrong" / "data", [SIZE // 2])
    home = trusting_home(tmp_path / "home", shelved)
    with lying(shelved, wrong) as liar:
        pull = Pull(home, shelved.file, options(liar.endpoint, give_up_after=2.0))
        rejected = pull.expect(SourceRejected)
        assert rejected.source == liar.text
        assert isinstance(pull.error(), NetworkError)  # nobody else is there
    right = max(progress.done for progress in pull.of(PullProgress))
    with seeding(shelved) as honest:
        done = pulled(home, shelved.file, options(honest.endpoint))
    assert done.bytes_reused >= right, "what the liar gave right need not come again"
    assert done.bytes_reused + done.bytes_from_peers == SIZE
    assert_pulled(home, shelved)


def test_a_lying_mirror_is_named_and_peers_complete_the_pull(tmp_path: Path) -> None:
    source = tmp_path / "files"
    with mirror(source) as liar:
        shelved = one_blob(tmp_path, SIZE, mirrors=(liar.of("blob.bin"),))
        liar.wrong_from = 0
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved, up=10_000_000) as honest:
            pull = Pull(home, shelved.file, options(honest.endpoint))
            rejected = pull.expect(SourceRejected)
            done = pull.result()
    assert (rejected.kind, rejected.source) == ("mirror", liar.of("blob.bin"))
    assert "wrong bytes" in rejected.reason
    assert done.rejected == (rejected,), "one liar, one line"
    assert_pulled(home, shelved)


def test_with_a_lying_mirror_alone_the_pull_ends_by_naming_it(tmp_path: Path) -> None:
    with mirror(tmp_path / "files") as liar:
        shelved = one_blob(tmp_path, SIZE, mirrors=(liar.of("blob.bin"),))
        liar.wrong_from = 0
        home = trusting_home(tmp_path / "home", shelved)
        pull = Pull(home, shelved.file, options(give_up_after=2.0))
        error = pull.error()
    assert error.exit_code is ExitCode.NETWORK
    assert liar.of("blob.bin") in str(error)
    assert [(item.kind, item.source) for item in pull.of(SourceRejected)] == [("mirror", liar.of("blob.bin"))]


@pytest.mark.parametrize("claimed", [True, False], ids=["in-a-claimed-piece", "in-an-unclaimed-piece"])
def test_a_flip_in_the_partial_file_costs_that_piece(tmp_path: Path, shelved: Shelf, claimed: bool) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    pull_half(home, shelved)
    data = partial_data(home, shelved.only)
    record = data.with_name("record")
    assert record.exists()
    if not claimed:
        record.unlink()
    flip(data, 1000)
    with seeding(shelved) as honest:
        pull = Pull(home, shelved.file, options(honest.endpoint))
        done = pull.result()
    assert_pulled(home, shelved)
    assert SIZE // 2 - 2 * PIECE <= done.bytes_from_peers <= SIZE // 2 + 17 * PIECE, "half of it was there"
    if claimed:
        # what a record claims isn't read again until the proof of the whole; then one block (4 MiB) is fetched anew
        assert any("block 0" in note.message for note in pull.events if hasattr(note, "message"))


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "nonsense", "other-blob"])
def test_a_damaged_resume_record_costs_a_check_and_no_bytes(tmp_path: Path, shelved: Shelf, damage: str) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    pull_half(home, shelved)
    record = partial_data(home, shelved.only).with_name("record")
    good = record.read_bytes()
    record.write_bytes(
        {
            "flipped": good.replace(b"A", b"B", 1),
            "cut": good[:-10],
            "empty": b"",
            "nonsense": b"\xff" * 200,
            "other-blob": good.replace(shelved.only.b3.encode(), b"b3:" + b"0" * 64),
        }[damage]
    )
    assert record.read_bytes() != good
    with seeding(shelved) as honest:
        done = pulled(home, shelved.file, options(honest.endpoint))
    assert_pulled(home, shelved)
    assert done.bytes_reused >= SIZE // 2 - 2 * PIECE
    assert done.bytes_reused + done.bytes_from_peers == SIZE


def test_a_shorter_partial_file_than_its_record_claims(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    pull_half(home, shelved)
    data = partial_data(home, shelved.only)
    with data.open("r+b") as file:
        file.truncate(3 * PIECE + 5)
    with seeding(shelved) as honest:
        done = pulled(home, shelved.file, options(honest.endpoint))
    assert_pulled(home, shelved)
    assert done.bytes_reused == 3 * PIECE


def test_a_longer_partial_file_than_the_blob(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    pull_half(home, shelved)
    data = partial_data(home, shelved.only)
    with data.open("r+b") as file:
        file.seek(SIZE)
        file.write(b"more than there should be")
    with seeding(shelved) as honest:
        pulled(home, shelved.file, options(honest.endpoint))
    assert_pulled(home, shelved)


def test_rot_in_the_store_is_found_by_verify_and_mended_by_fetching_that_piece(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as honest:
        pulled(home, shelved.file, options(honest.endpoint))
        blob = home.blob(shelved.only.b3_hex)
        flip(blob, 5 * MIB)
        (checked,) = verify(home, shelved.reference)
        assert [bad.block.index for bad in checked.bad] == [1]
        problem = problem_of(checked)
        assert problem is not None
        assert problem.exit_code is ExitCode.INTEGRITY
        assert "block 1 (bytes 4194304–8388607)" in str(problem)
        before = honest.uploaded
        pull = Pull(home, shelved.pinned, options(honest.endpoint))
        done = pull.result()
        assert honest.uploaded - before == PIECE
    assert done.bytes_from_peers == PIECE
    assert done.bytes_reused == SIZE - PIECE
    assert any("damaged" in warned.message for warned in pull.of(Warned))
    assert_pulled(home, shelved)
    (checked,) = verify(home, shelved.reference)
    assert checked.ok


def test_an_edited_blob_in_the_store_is_noticed_without_verify(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as honest:
        pulled(home, shelved.file, options(honest.endpoint))
        blob = home.blob(shelved.only.b3_hex)
        blob.chmod(0o644)
        with blob.open("r+b") as file:
            file.write(b"edited")
        with Index.open(home) as index:
            record = index.blob(shelved.only.b3)
            assert record is not None
            assert whole_copy(record) is None
        done = pulled(home, shelved.pinned, options(honest.endpoint))
    assert done.bytes_from_peers == PIECE
    assert_pulled(home, shelved)


def test_blocks_cut_across_pieces_are_judged_rightly(tmp_path: Path) -> None:
    """A GGUF's blocks share no borders with pieces; every one is checked, and the header's too."""
    published = shelf(tmp_path / "shelf", [FIXTURES / "tiny.gguf", FIXTURES / "tiny-q8_0.gguf"])
    home = trusting_home(tmp_path / "home", published)
    with seeding(published) as honest:
        pull = Pull(home, published.file, options(honest.endpoint))
        pull.result()
    verified = {event.path: event.verified for event in pull.of(PullProgress)}
    assert verified == {file.path: file.size for file in published.release.files}
    assert_pulled(home, published)
