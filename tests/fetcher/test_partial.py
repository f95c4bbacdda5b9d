"""What may be claimed of a transfer in progress: only what is durable, right, and really in the file."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.world import MIB, PIECE, Shelf, flip, one_blob

from samara.fetcher.partial import Claims, Partial, recover, sweep_removed
from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.schemas.bittorrent import TorrentHashes, parse_blob_torrent
from samara.schemas.ranges import Bitmap

SIZE = 2 * MIB - 1000  # 8 pieces, the last one short
PIECES = 8
BLOCKS = 1
HEX = "ab" * 32
LIMIT = 30.0

# every example writes the same few files anew
files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def shelved(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return one_blob(tmp_path_factory.mktemp("shelf"), SIZE)


@pytest.fixture
def hashes(shelved: Shelf) -> TorrentHashes:
    return parse_blob_torrent(shelved.torrent).hashes


@pytest.fixture
def partial(tmp_path: Path) -> Partial:
    made = Partial(Home(tmp_path), HEX)
    made.folder.mkdir(parents=True)
    return made


def claims(pieces: object = (), blocks: object = ()) -> Claims:
    return Claims(pieces=Bitmap.of(PIECES, pieces), blocks=Bitmap.of(BLOCKS, blocks))  # type: ignore[arg-type]


# -- the record ------------------------------------------------------------------------------------------------------


@files
@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 29)))
def test_a_record_says_what_was_written(tmp_path: Path, pieces: set[int], blocks: set[int]) -> None:
    partial = Partial(Home(tmp_path), HEX)
    partial.folder.mkdir(parents=True, exist_ok=True)
    written = Claims(pieces=Bitmap.of(100, pieces), blocks=Bitmap.of(30, blocks))
    partial.save(written)
    assert partial.load(pieces=100, blocks=30) == written
    assert partial.load(pieces=80, blocks=30) is None
    assert partial.load(pieces=100, blocks=50) is None


def test_any_flipped_bit_in_a_record_makes_it_say_nothing(partial: Partial) -> None:
    partial.save(claims({0, 3, 7}, {0}))
    record = partial.folder / "record"
    whole = record.read_bytes()
    for offset in range(len(whole)):
        for bit in range(8):
            record.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1 << bit]) + whole[offset + 1 :])
            assert partial.load(pieces=PIECES, blocks=BLOCKS) is None, f"bit {bit} of byte {offset}"


def test_any_shortened_record_says_nothing(partial: Partial) -> None:
    partial.save(claims({0, 3, 7}, {0}))
    record = partial.folder / "record"
    whole = record.read_bytes()
    for length in range(len(whole)):
        record.write_bytes(whole[:length])
        assert partial.load(pieces=PIECES, blocks=BLOCKS) is None


@files
@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(tmp_path: Path, data: bytes) -> None:
    partial = Partial(Home(tmp_path), HEX)
    partial.folder.mkdir(parents=True, exist_ok=True)
    (partial.folder / "record").write_bytes(data)
    assert partial.load(pieces=PIECES, blocks=BLOCKS) is None


def test_another_blobs_record_says_nothing(tmp_path: Path, partial: Partial) -> None:
    partial.save(claims({0}))
    other = Partial(Home(tmp_path), "cd" * 32)
    shutil.copytree(partial.folder, other.folder)
    assert other.load(pieces=PIECES, blocks=BLOCKS) is None


# -- what is really there --------------------------------------------------------------------------------------------


def test_no_file_holds_nothing(partial: Partial, hashes: TorrentHashes) -> None:
    found = recover(partial, hashes, BLOCKS)
    assert (len(found.pieces), len(found.blocks), found.checked) == (0, 0, 0)


def test_without_a_record_every_right_piece_is_found(partial: Partial, shelved: Shelf, hashes: TorrentHashes) -> None:
    shutil.copy(shelved.source, partial.data)
    flip(partial.data, 2 * PIECE + 5)
    found = recover(partial, hashes, BLOCKS)
    assert list(found.pieces) == [0, 1, 3, 4, 5, 6, 7]
    assert len(found.blocks) == 0
    assert found.checked >= SIZE


@pytest.mark.skipif(sys.platform != "linux", reason="holes are found by SEEK_DATA, and tmpfs and ext4 have it")
def test_a_hole_is_never_believed(partial: Partial, shelved: Shelf, hashes: TorrentHashes) -> None:
    """A claim where the file has no data: the record outlived bytes that never reached the disk."""
    data = shelved.source.read_bytes()
    with partial.data.open("wb") as file:
        file.truncate(SIZE)
        file.seek(3 * PIECE)
        file.write(data[3 * PIECE : 5 * PIECE])
    partial.save(claims(range(PIECES), {0}))
    found = recover(partial, hashes, BLOCKS)
    assert list(found.pieces) == [3, 4]
    assert len(found.blocks) == 0, "where a claim about pieces is wrong, none about blocks is believed"
    assert found.checked == 0


def test_claimed_pieces_are_not_read_again(partial: Partial, shelved: Shelf, hashes: TorrentHashes) -> None:
    shutil.copy(shelved.source, partial.data)
    partial.save(claims({0, 1, 2}))
    found = recover(partial, hashes, BLOCKS)
    assert found.pieces.is_full
    assert found.checked == 5 * PIECE


@files
@given(length=st.integers(0, SIZE), claimed=st.sets(st.integers(0, PIECES - 1)))
def test_a_cut_file_holds_its_whole_pieces_whatever_is_claimed(
    tmp_path: Path, shelved: Shelf, hashes: TorrentHashes, length: int, claimed: set[int]
) -> None:
    partial = Partial(Home(tmp_path), HEX)
    partial.folder.mkdir(parents=True, exist_ok=True)
    partial.data.write_bytes(shelved.source.read_bytes()[:length])
    partial.save(claims(claimed))
    whole = PIECES if length == SIZE else length // PIECE
    assert list(recover(partial, hashes, BLOCKS).pieces) == list(range(whole))


def test_what_is_no_file_of_ours_is_removed_rather_than_read(partial: Partial, hashes: TorrentHashes) -> None:
    partial.data.mkdir()
    assert len(recover(partial, hashes, BLOCKS).pieces) == 0
    assert not partial.data.exists()


def test_claims_about_another_torrents_pieces_say_nothing(tmp_path: Path) -> None:
    mine, others = Partial(Home(tmp_path), HEX, "aa"), Partial(Home(tmp_path), HEX, "bb")
    mine.folder.mkdir(parents=True)
    mine.save(claims([1]))
    assert mine.load(pieces=PIECES, blocks=BLOCKS) is not None
    assert others.load(pieces=PIECES, blocks=BLOCKS) is None


# -- the lock --------------------------------------------------------------------------------------------------------


def holding(partial: Partial, taken: threading.Event, let_go: threading.Event, *, remove: bool) -> None:
    with partial.locked(on_wait=lambda: None, give_up=lambda: False):
        taken.set()
        assert let_go.wait(LIMIT)
        if remove:
            partial.remove()


@pytest.mark.parametrize("remove", [True, False], ids=["folder-removed", "folder-kept"])
def test_the_next_one_waits_and_then_has_it(tmp_path: Path, remove: bool) -> None:
    first, second = Partial(Home(tmp_path), HEX), Partial(Home(tmp_path), HEX)
    taken, let_go = threading.Event(), threading.Event()
    thread = threading.Thread(target=holding, args=(first, taken, let_go), kwargs={"remove": remove})
    thread.start()
    assert taken.wait(LIMIT)
    waited: list[bool] = []

    def on_wait() -> None:
        waited.append(True)
        let_go.set()

    with second.locked(on_wait=on_wait, give_up=lambda: False) as ours:
        assert ours
        assert waited == [True]
        assert (second.folder / "lock").exists()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_one_who_needs_it_no_more_goes_without(tmp_path: Path) -> None:
    first, second = Partial(Home(tmp_path), HEX), Partial(Home(tmp_path), HEX)
    with (
        first.locked(on_wait=lambda: None, give_up=lambda: False),
        second.locked(on_wait=lambda: None, give_up=lambda: True) as ours,
    ):
        assert not ours


def test_many_waiters_hold_it_one_at_a_time_while_each_removes_the_folder(tmp_path: Path) -> None:
    """The lock lies in the folder that its holder removes: the moment between two holders is where two could meet."""
    inside = 0
    met: list[int] = []
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside
        for _ in range(10):
            mine = Partial(Home(tmp_path), HEX)
            with mine.locked(on_wait=lambda: None, give_up=lambda: False):
                with guard:
                    inside += 1
                    met.append(inside)
                mine.data.touch()
                with guard:
                    inside -= 1
                mine.remove()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert len(met) == 40
    assert set(met) == {1}
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_removal_that_was_killed_is_finished(tmp_path: Path, partial: Partial) -> None:
    partial.data.touch()
    aside = partial.folder.with_name(TEMPORARY_PREFIX + "0123")
    partial.folder.rename(aside)
    sweep_removed(Home(tmp_path))
    assert not aside.exists()
    sweep_removed(Home(tmp_path / "nothing yet"))
